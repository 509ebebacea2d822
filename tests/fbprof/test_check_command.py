"""`fbprof check` as a person and a program use it: what it prints, and its exit codes."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from fbbase.commandline import run
from fblut.table import Lut, Metadata, Row
from fblut.writing import format_lut, write_lut
from fbprof.cli import fbprof
from fbspace.opspec import OpSpec
from fbspace.space import load_space

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def good() -> Lut:
    metadata = Metadata(
        space="fbnet-tiny",
        device="local",
        runtime="litert",
        runtime_version="2.3.0",
        precision="float32",
        threads=1,
    )
    operators = {spec: 100 * spec.kernel + spec.expansion for spec in load_space("fbnet-tiny").operators()}
    rows = {spec.key(): Row(spec, us, us - 1, us + 1, 1.0, 80) for spec, us in operators.items()}
    return Lut(metadata, rows)


def with_row(lut: Lut, row: Row) -> Lut:
    return replace(lut, rows=lut.rows | {row.spec.key(): row})


def noisy(lut: Lut, count: int) -> Lut:
    for row in list(lut.rows.values())[:count]:
        lut = with_row(lut, replace(row, spread_us=1000.0))
    return lut


def test_a_good_table(here: Path, capsys: Captured) -> None:
    write_lut(good(), here / "a.csv")
    assert run(fbprof, ["check", "a.csv", "--strict"]) == 0
    assert capsys.readouterr() == ("good\n", "")


def test_warnings_leave_a_table_usable_and_fail_only_under_strict(here: Path, capsys: Captured) -> None:
    write_lut(noisy(good(), 1), here / "a.csv")
    assert run(fbprof, ["check", "a.csv"]) == 0
    out, err = capsys.readouterr()
    title, line, verdict = out.splitlines()
    assert (title, verdict, err) == ("a.csv: noisy, 1 warning", "usable: 1 warning", "")
    assert line.startswith(f"  {load_space('fbnet-tiny').operators()[0].key()}: half of the samples spread over")
    assert run(fbprof, ["check", "a.csv", "--strict"]) == 1
    assert "1 warning found, and --strict allows none" in capsys.readouterr().err


def test_errors_come_first_and_exit_with_1(here: Path, capsys: Captured) -> None:
    first, second, *_ = load_space("fbnet-tiny").operators()
    lut = with_row(noisy(good(), 3), Row(first, None, status="failed", notes="it crashed"))
    rows = {key: row for key, row in lut.rows.items() if key != second.key()}
    write_lut(replace(lut, rows=rows), here / "a.csv")
    assert run(fbprof, ["check", "a.csv"]) == 1
    out, err = capsys.readouterr()
    lines = out.splitlines()
    again = "measure again: fbprof measure --space fbnet-tiny --device local --runtime litert --precision float32"
    assert lines[:4] == [
        "a.csv: failed, 1 error",
        f"  {first.key()}: failed: it crashed; {again} --threads 1",
        "a.csv: missing, 1 error",
        f"  {second.key()}: no row; {again} --threads 1",
    ]
    assert lines[4] == "a.csv: noisy, 1 warning"
    assert lines[-1] == "do not use: 2 errors"
    assert "2 errors found" in err


def test_ten_findings_of_a_rule_are_shown_and_the_rest_on_request(here: Path, capsys: Captured) -> None:
    write_lut(noisy(good(), 13), here / "a.csv")
    assert run(fbprof, ["check", "a.csv"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "a.csv: noisy, 13 warnings"
    assert lines[-2:] == ["  … and 3 more (--all shows them)", "usable: 13 warnings"]
    assert len(lines) == 1 + 10 + 2
    assert run(fbprof, ["check", "a.csv", "--all"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + 13 + 1
    assert not any("more (--all" in line for line in lines)


def first_row_twice(text: str) -> str:
    return text + next(line for line in text.splitlines() if line.startswith("conv_")) + "\n"


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (
            lambda text: text.replace(",301.000,300.000", ",0.000,300.000", 1),
            "(latency_us): 0.000 is not a time",
        ),
        (
            lambda text: text.replace(",301.000,300.000", ",-3.0,300.000", 1),
            "column 13 (latency_us): -3.0 is not",
        ),
        (lambda text: text.replace(",301.000,300.000", ",,300.000", 1), "status is ok, so a latency must be here"),
        (first_row_twice, "is already in line"),
        (lambda text: text.replace("_relu,conv,3,32", "_relu,conv,4,32", 1), "'4' contradicts the key, which says '3'"),
        (lambda text: "key,latency\n", "line 1: not a latency table of this version"),
    ],
)
def test_a_broken_table_is_an_error_with_its_place_not_a_wrong_use(spoil, complaint, here, capsys):
    text = format_lut(good())
    assert spoil(text) != text
    (here / "a.csv").write_text(spoil(text))
    assert run(fbprof, ["check", "a.csv"]) == 1
    title, line, verdict = capsys.readouterr().out.splitlines()
    assert (title, verdict) == ("a.csv: malformed, 1 error", "do not use: 1 error")
    assert line.startswith("  a.csv: line ")
    assert complaint in line
    assert line.endswith("; correct the file or measure again")


def test_what_cannot_be_checked_at_all_is_a_wrong_use(here: Path, capsys: Captured) -> None:
    assert run(fbprof, ["check", "no.csv"]) == 2
    assert "latency table not found: no.csv" in capsys.readouterr().err
    assert run(fbprof, ["check"]) == 2


@pytest.mark.parametrize("space", ["theirs", "theirs.toml"])
def test_an_unknown_space_is_a_warning(space: str, here: Path, capsys: Captured) -> None:
    lut = good()
    write_lut(replace(lut, metadata=lut.metadata.model_copy(update={"space": space})), here / "a.csv")
    assert run(fbprof, ["check", "a.csv"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert (lines[0], lines[-1]) == ("a.csv: unknown-space, 1 warning", "usable: 1 warning")


def test_several_tables_are_checked_each_and_together(here: Path, capsys: Captured) -> None:
    spec = OpSpec("conv", 3, 16, 32, 32, kernel=3, stride=2)
    lut = good()
    assert lut.rows[spec.key()].latency_us == 301.0
    write_lut(lut, here / "a.csv")
    write_lut(with_row(lut, Row(spec, 400.0, 399.0, 401.0, 1.0, 80)), here / "b.csv")
    other = lut.metadata.model_copy(update={"runtime": "onnxruntime"})
    write_lut(replace(noisy(lut, 1), metadata=other), here / "c.csv")
    (here / "d.csv").write_text("nothing\n")
    assert run(fbprof, ["check", "a.csv", "b.csv", "b.csv", "c.csv", "d.csv"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if not line.startswith(" ")] == [
        "c.csv: noisy, 1 warning",
        "d.csv: malformed, 1 error",
        "among the tables: mixed-runtime, 1 warning",
        "among the tables: disagreeing, 1 warning",
        "do not use: 1 error",
    ]
    assert "  runtime differs: litert (a.csv), litert (b.csv), onnxruntime (c.csv); " in "\n".join(lines)
    assert f"  {spec.key()}: 301.0 µs in a.csv, 400.0 µs in b.csv; " in "\n".join(lines)


def test_json_holds_every_finding_and_the_verdict(here: Path, capsys: Captured) -> None:
    operators = load_space("fbnet-tiny").operators()
    write_lut(noisy(good(), 13), here / "a.csv")
    assert run(fbprof, ["check", "a.csv", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert [result[name] for name in ("verdict", "errors", "warnings")] == ["usable", 0, 13]
    assert [f["operators"] for f in result["findings"]] == [[spec.key()] for spec in operators[:13]]
    assert {(f["table"], f["severity"], f["rule"]) for f in result["findings"]} == {("a.csv", "warning", "noisy")}
    (here / "b.csv").write_text("nothing\n")
    assert run(fbprof, ["check", "b.csv", "--json"]) == 1
    out, err = capsys.readouterr()
    assert json.loads(out)["verdict"] == "do not use"
    assert json.loads(out)["findings"][0]["message"].startswith("b.csv: line 1: not a latency table")
    assert "error: 1 error found" in err.replace("\x1b[0m", "")
    write_lut(good(), here / "a.csv")
    assert run(fbprof, ["check", "a.csv", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"verdict": "good", "errors": 0, "warnings": 0, "findings": []}
