"""Tables and journals of others: lines and fields that are there twice, what a spreadsheet wrote, what cannot be."""

import json
import lzma
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from fbbase.commandline import run
from fblut.check import check
from fblut.errors import LutError
from fblut.reading import parse_lut
from fblut.table import Lut, Metadata, Row
from fblut.writing import MAGIC, format_lut
from fbprof.cli import fbprof
from fbprof.errors import JournalError
from fbprof.journal.journal import read_journal, read_measured
from fbspace.opspec import OpSpec

DATA = Path(__file__).parents[1] / "data"
STEM = OpSpec("conv", 3, 16, 32, 32, kernel=3, stride=2)
Captured = pytest.CaptureFixture[str]


def table(**fields: object) -> Lut:
    said = {"space": "s", "device": "d", "runtime": "r", "runtime_version": "1", "precision": "p", "threads": 1}
    return Lut(Metadata.model_validate(said | fields), {STEM.key(): Row(STEM, 5.25, 5.0, 5.5, 0.5, 3, notes="a; b")})


@pytest.fixture
def lines() -> list[str]:
    return lzma.decompress((DATA / "replay.journal.jsonl.xz").read_bytes()).decode().splitlines()


def german(text: str) -> str:
    """Return a table as a German spreadsheet saves it: semicolons, decimal commas, quoted header lines."""
    columns = next(i for i, line in enumerate(text.splitlines()) if not line.startswith("#"))
    head, names, rows = text.splitlines()[:columns], text.splitlines()[columns], text.splitlines()[columns + 1 :]
    width = ";" * names.count(",")
    quoted = ['"' + line.replace('"', '""') + '"' + width if '"' in line else line + width for line in head]
    cells = [row.replace(",", ";").replace(".", ",").replace("a; b", '"a; b"') for row in rows]
    return "\ufeff" + "\r\n".join([*quoted, names.replace(",", ";"), *cells]) + "\r\n"


def test_a_table_that_a_german_spreadsheet_saved_is_read(tmp_path: Path, capsys: Captured) -> None:
    plain = format_lut(table(warnings=("it's warm, and 1.5 % slow",)))
    assert parse_lut(german(plain).lstrip("\ufeff"), "t") == parse_lut(plain, "t")
    (tmp_path / "t.csv").write_text(german(plain), encoding="utf-8", newline="")
    run(fbprof, ["check", str(tmp_path / "t.csv")])
    assert "malformed" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda t: t.replace("# threads: 1", "# threads: 1\n# threads: 2"),
            "header field 'threads' is already in line",
        ),
        (lambda t: t.replace("5.250", "٥"), "'٥' is not a number"),
        (lambda t: t.replace("5.250", "5_0"), "'5_0' is not a number"),
        (lambda t: t.replace("5.250", "1e300"), "1e300 is not a time that can be measured"),
        (lambda t: t.replace("5.250", '"5,25"'), r"'5,25' is not a number; a decimal comma\? write a point"),
        (lambda t: t.replace('device: "d"', 'device: "\\ud800"'), r"line 3: .*the character U\+D800"),
        (lambda t: t.replace("network_us: 0.0", "network_us: -1e300"), "header field 'network_us': .*greater than"),
        (lambda t: t.replace("seed: null", f"seed: {'9' * 5000}"), "a number of thousands of digits"),
        (lambda t: t.replace("seed: null", "seed: " + "[" * 100_000), "nested too deep"),
        (lambda t: t.replace("in3x32x32", f"in{'9' * 5000}x32x32"), "not an operator key"),
        (lambda t: t.replace(",3,0,", f",{'9' * 5000},0,"), "is not a whole number"),
    ],
)
def test_what_a_table_cannot_mean_is_refused(change: Callable[[str], str], message: str) -> None:
    text = format_lut(table())
    assert change(text) != text
    with pytest.raises(LutError, match=message):
        parse_lut(change(text), "t")


@pytest.mark.parametrize(("network_us", "rules"), [(-5.0, []), (-6.0, ["negative"]), (0.0, [])])
def test_a_table_by_which_networks_take_less_than_no_time_is_not_good(network_us: float, rules: list[str]) -> None:
    found = [finding for finding in check(table(network_us=network_us), None) if finding.severity == "error"]
    assert [finding.rule for finding in found] == rules


def test_control_characters_and_formulas_do_not_reach_a_table() -> None:
    lut = table(device="\x1b]0;t\x07\x9b")
    lut.rows[STEM.key()] = Row(STEM, None, status="failed", notes="=cmd()|'\x1b[31m")
    text = format_lut(lut)
    assert text.startswith(MAGIC)
    assert not any((ord(each) < 32 and each != "\n") or 126 < ord(each) < 160 for each in text)
    assert text.rstrip().endswith(r"'=cmd()|'\x1b[31m")
    assert parse_lut(text, "t").metadata.device == "\x1b]0;t\x07\x9b"


@pytest.mark.parametrize("form", ["table", "md", "csv", "html", "json"])
def test_control_characters_do_not_reach_a_terminal(tmp_path: Path, capsys: Captured, form: str) -> None:
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text(format_lut(table(device="\x1b]0;t\x07\x9b\u202e", space="\x1b[2J")))
    assert run(fbprof, ["compare", str(tmp_path / "a.csv"), str(tmp_path / "b.csv"), "--format", form]) == 0
    assert run(fbprof, ["check", str(tmp_path / "a.csv")]) == 0
    said = "".join(capsys.readouterr())
    assert not any((ord(each) < 32 and each != "\n") or 126 < ord(each) < 160 or each == "\u202e" for each in said)


def test_a_line_that_is_in_a_journal_twice_counts_once(tmp_path: Path, lines: list[str]) -> None:
    (tmp_path / "once").write_text("\n".join(lines) + "\n")
    doubled = [line for line in lines for _ in range(2 if '"record":"visit"' in line else 1)]
    (tmp_path / "twice").write_text("\n".join(doubled) + "\n")
    once, twice = (read_journal(tmp_path / name) for name in ("once", "twice"))
    assert once is not None
    assert twice is not None
    assert len(doubled) > len(lines)
    assert twice.counts == once.counts
    assert list(twice.visits) == list(once.visits)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda start: start | {"identity": {}}, "line 1: damaged: its identity has no space, or one of another type"),
        (lambda start: start | {"identity": start["identity"] | {"threads": "x"}}, "its identity has no threads"),
        (lambda start: start | {"identity": start["identity"] | {"runs": True}}, "its identity has no runs"),
        (lambda start: start | {"identity": start["identity"] | {"cores": [-1]}}, "line 1: damaged: "),
        (lambda start: start | {"identity": []}, "line 1: damaged: "),
        (lambda start: None, "line 1: damaged: "),
    ],
)
def test_a_journal_that_does_not_say_what_it_is_of_is_refused(
    tmp_path: Path, lines: list[str], change: Callable[[dict[str, object]], object], message: str
) -> None:
    path = tmp_path / "j.journal.jsonl"
    path.write_text("\n".join([json.dumps(change(json.loads(lines[0]))), *lines[1:]]) + "\n")
    with pytest.raises(JournalError, match=message):
        read_measured(path)


def test_a_journal_of_visits_without_a_session_is_refused(
    tmp_path: Path, lines: list[str], capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(DATA / "replay.toml", tmp_path)
    path = tmp_path / "j.journal.jsonl"
    path.write_text("\n".join(line for line in lines if '"record":"session"' not in line) + "\n")
    assert run(fbprof, ["estimate", str(path), "-o", str(tmp_path / "t.csv")]) == 2
    assert "it has visits but no session" in capsys.readouterr().err
    before = path.read_bytes()
    assert run(fbprof, ["measure", "--space", "replay.toml", "-o", "j.csv"]) == 2
    assert "it has visits but no session" in capsys.readouterr().err
    assert run(fbprof, ["estimate", str(path), "-o", str(path)]) == 2
    assert path.read_bytes() == before


@pytest.mark.parametrize("output", ["-", "/dev/null", "pipe"])
def test_a_run_whose_journal_has_no_place_to_lie_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured, output: str
) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    assert run(fbprof, ["measure", "--dry-run", "-o", output]) == 2
    assert f"-o {output} is no file, and a journal is kept beside the output" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]
