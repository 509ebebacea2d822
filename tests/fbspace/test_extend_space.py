"""docs/extend/space.md, followed literally: a file anywhere, one in a copy of the sources, one in an own package."""

import json
import tomllib
from pathlib import Path

import pytest

from fbspace.space import load_space
from peers.extending import copy_sources, examples, install, page, python

SPACE, ENTRY_POINT = examples(page("space"), "toml")
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
def test_a_name(way: str, tmp_path: Path) -> None:
    core, site = copy_sources(tmp_path, ["core"]) / "core", tmp_path / "site"
    if way == "file":
        (core / "fbspace" / "spaces" / "mine.toml").write_text(SPACE, encoding="utf-8")
    else:
        install(site, tomllib.loads(ENTRY_POINT), {"mine.toml": SPACE})
    result = python(["-c", LOAD], tmp_path, tmp_path, site)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == [1, 5, ["k3_e3", "k5_e6_se", "skip"]]
