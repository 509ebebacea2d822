"""docs/extend/command.md, followed literally: its file in the folder that it names, and in a package of one's own."""

import re
import sys
import tomllib
from pathlib import Path

import pytest

import fbprof.commands
from fbbase.commandline import run
from fblut.reading import read_lut
from fbprof.cli import fbprof as tool

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "extend" / "command.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", PAGE, re.S)
    assert found is not None
    return found[1]


def check(capsys: pytest.CaptureFixture[str]) -> None:
    """Give the page's command, and look at what it prints and at its help."""
    rows = sorted(read_lut(Path("pixel-3")).rows.values(), key=lambda row: -(row.latency_us or 0))
    (shown,) = re.findall(r"^    fbprof (.*)$", PAGE, re.M)
    assert run(tool, shown.split()) == 0
    assert capsys.readouterr().out.splitlines() == [f"{row.latency_us:9.1f}  {row.spec.key()}" for row in rows[:3]]
    assert run(tool, ["--help"]) == 0
    assert re.search(r"^  slowest +Print the operators of TABLE that take longest", capsys.readouterr().out, re.M)
    assert run(tool, ["slowest", "--top", "0"]) == 2


def test_a_file_in_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = re.findall(r"file in\s+`([\w/]+)/` for `fbprof`", PAGE)
    assert [ROOT / folder for folder in folders] == [Path(each) for each in fbprof.commands.__path__]
    (tmp_path / "slowest.py").write_text(block("python"), encoding="utf-8")
    fbprof.commands.__path__.append(str(tmp_path))
    try:
        check(capsys)
    finally:
        fbprof.commands.__path__.remove(str(tmp_path))
        monkeypatch.delitem(sys.modules, "fbprof.commands.slowest")


def test_a_package_of_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    package = tmp_path / "my_package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "slowest.py").write_text(block("python"), encoding="utf-8")
    ((group, entries),) = tomllib.loads(block("toml"))["project"]["entry-points"].items()
    about = tmp_path / "my_package-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1\n")
    lines = [f"[{group}]", *(f"{name} = {value}" for name, value in entries.items())]
    (about / "entry_points.txt").write_text("\n".join(lines) + "\n")
    monkeypatch.syspath_prepend(tmp_path)
    check(capsys)
