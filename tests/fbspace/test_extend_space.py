"""docs/extend/space.md, followed literally: a file anywhere, one in a copy of the sources, one in an own package."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from fbspace.space import load_space

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "extend" / "space.md").read_text(encoding="utf-8")
SPACE, ENTRY_POINT = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
LOAD = """
import json
from fbspace.space import SPACES, load_space
space = load_space("mine")
print(json.dumps([SPACES.names().count("mine"), len(space.layers), list(space.layers[0].candidates)]))
"""


def test_a_file_anywhere(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(SPACE, encoding="utf-8")
    space = load_space(str(tmp_path / "mine.toml"))
    assert (len(space.layers), list(space.layers[0].candidates)) == (5, ["k3_e3", "k5_e6_se", "skip"])


@pytest.mark.parametrize("way", ["file", "package"])
def test_a_name(way: str, tmp_path: Path, install_package: Callable[..., None]) -> None:
    core, site = tmp_path / "core", tmp_path / "site"
    shutil.copytree(ROOT / "core", core, ignore=shutil.ignore_patterns("__pycache__"))
    if way == "file":
        (core / "fbspace" / "spaces" / "mine.toml").write_text(SPACE, encoding="utf-8")
    else:
        install_package(site, tomllib.loads(ENTRY_POINT), {"mine.toml": SPACE})
    known = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (core, site)))}
    result = subprocess.run([sys.executable, "-c", LOAD], env=known, capture_output=True, text=True, timeout=100)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == [1, 5, ["k3_e3", "k5_e6_se", "skip"]]
