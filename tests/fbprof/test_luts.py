"""Published tables: each says where it comes from, holds what its source holds, and is found by its name."""

import json
from pathlib import Path

import pytest

from fbbase.commandline import run
from fblut.check import check
from fblut.reading import PUBLISHED, read_lut
from fblut.writing import write_lut
from fbprof.borrowed.importing import import_table
from fbprof.cli import fbprof
from fbspace.architecture import load_space_of

NAMES = PUBLISHED.names()


@pytest.mark.parametrize("name", NAMES)
def test_a_published_table_is_complete_and_says_where_it_comes_from(name: str) -> None:
    lut = read_lut(Path(name))
    told = lut.metadata.model_dump()
    assert told["source"]
    assert told["license"]
    assert lut.metadata.device != "local"
    assert lut.metadata.origin == ("measured" if name.startswith("amd-epyc") else "imported")
    assert name in (PUBLISHED.path(name).parent / "NOTICE.md").read_text()
    findings = check(lut, load_space_of(lut.metadata.space))
    assert [f.message for f in findings if f.severity == "error"] == []


@pytest.mark.parametrize(("name", "file"), [("pixel-3", "pixel3_blocks"), ("raspberry-pi-4", "raspi4_blocks")])
def test_an_imported_table_is_what_its_source_says(name: str, file: str, shared: Path, tmp_path: Path) -> None:
    lut = read_lut(Path(name))
    path = shared / "data" / "devices" / f"{file}.csv"
    write_lut(import_table(path, load_space_of("fbnet-cifar"), lut.metadata.model_dump()), tmp_path / "again.csv")
    again = read_lut(tmp_path / "again.csv")  # rounded to the last decimal of a table
    assert again.rows == lut.rows
    assert again.metadata.network_us == lut.metadata.network_us


def test_tables_are_listed_and_described(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(fbprof, ["luts"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in NAMES)
    assert run(fbprof, ["luts", "pixel-3"]) == 0
    assert "HW-NAS-Bench" in capsys.readouterr().out
    assert run(fbprof, ["luts", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)) == set(NAMES)


def test_an_unknown_name_lists_the_known(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(fbprof, ["luts", "pixel-4"]) == 2
    assert "unknown latency table (a .csv file, or a published one) 'pixel-4'. Did you mean" in capsys.readouterr().err


def test_a_file_comes_before_a_published_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pixel-3").write_text(PUBLISHED.path("raspberry-pi-4").read_text())
    assert read_lut(Path("pixel-3")).metadata.device == "raspberry-pi-4"


def test_published_tables_are_compared_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(fbprof, ["compare", "pixel-3", "raspberry-pi-4"]) == 0
    assert "96 operators in both; geometric mean of the ratios 1.766" in capsys.readouterr().out
