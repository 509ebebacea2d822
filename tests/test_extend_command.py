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
from peers.extending import ROOT, examples, install, page

PAGE = page("command")


def block(language: str) -> str:
    return examples(PAGE, language)[0]


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
    install(tmp_path, tomllib.loads(block("toml")), {"slowest.py": block("python")})
    monkeypatch.syspath_prepend(tmp_path)
    check(capsys)
