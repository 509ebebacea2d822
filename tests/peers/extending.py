"""What follows the pages of docs/extend: their text, a copy of the sources, an own package, commands with either."""

import filecmp
import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peers import processes

ROOT = Path(__file__).parents[2]
SOURCES = ("core", "search", "profiler", "device_agents", "luts")
DRIVER = """
import contextlib, io, json, sys
from fbbase.commandline import run
from fbprof.cli import fbprof
from fbsearch.cli import fbsearch
ended = []
for tool, *words in json.load(sys.stdin):
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        code = run({"fbprof": fbprof, "fbsearch": fbsearch}[tool], words)
    ended.append([code, out.getvalue(), err.getvalue()])
json.dump(ended, sys.stdout)
"""


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


def page(name: str) -> str:
    """Return the text of a page of docs/extend."""
    return (ROOT / "docs" / "extend" / f"{name}.md").read_text(encoding="utf-8")


def examples(text: str, language: str) -> list[str]:
    """Return what a page shows in a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def copy_sources(folder: Path, names: Sequence[str] = SOURCES) -> Path:
    """Copy the sources with what Python has compiled of them, which it then need not compile again."""
    unfinished = shutil.ignore_patterns("*.pyc.*")  # which another process of the tests may write at the moment
    for name in names:
        shutil.copytree(ROOT / name, folder / name, ignore=unfinished)
    return folder


def touched(folder: Path) -> set[str]:
    """Return the files of a copy of the sources that are not as they are here, or only on one side."""
    here, there = (
        {
            str(path.relative_to(root)): path
            for name in SOURCES
            for path in (root / name).rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        }
        for root in (ROOT, folder)
    )
    same = {name for name in here.keys() & there.keys() if filecmp.cmp(here[name], there[name], shallow=False)}
    return (here.keys() | there.keys()) - same


def install(site: Path, project: Mapping[str, Any], files: Mapping[str, str]) -> None:
    """Leave my_package with files, and the entry points that its pyproject.toml says, as an installer does."""
    package, info = site / "my_package", site / "my_package-1.0.dist-info"
    for folder in (package, info):
        folder.mkdir(parents=True)
    for name, text in {"__init__.py": "", **files}.items():
        (package / name).write_text(text, encoding="utf-8")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
    lines = []
    for group, points in project["project"]["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {value}" for name, value in points.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")


def python(
    words: Sequence[str], folder: Path, sources: Path = ROOT, site: Path | None = None, input: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run Python in a folder, with the sources below another one and with the packages of a site."""
    paths = [*(sources / name for name in SOURCES), *([site] if site else [])]
    known = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, paths))}
    return processes.run(words, input, cwd=folder, env=known, timeout=500)


def give(
    commands: Sequence[Sequence[str]], folder: Path, sources: Path = ROOT, site: Path | None = None
) -> list[Ended]:
    """Give commands, each beginning with its tool, one after the other in one process."""
    done = python(["-c", DRIVER], folder, sources, site, input=json.dumps([list(words) for words in commands]))
    assert done.returncode == 0, done.stderr
    return [Ended(*each) for each in json.loads(done.stdout.splitlines()[-1])]
