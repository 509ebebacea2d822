"""A recorded run gives the recorded table, byte for byte: what pins the estimator and the verdict.

tests/data has the run's space, its raw samples and the table: a LiteRT run of ten operators, four loads or more each,
and twelve networks. After a change to the estimator that is meant to change tables, look at the difference and renew
the table in tests/data (the samples stay):

    xz -dk replay.journal.jsonl.xz && fbprof estimate replay.journal.jsonl -o replay.csv && rm replay.journal.jsonl

Processors and builds of BLAS differ in the last bits of a float; the table has three decimals, and nothing in it lies
within 1e-6 µs of where it would round up or down. OpenBLAS for six processors and numpy without AVX2 give these bytes.
"""

import lzma
import re
import shutil
from pathlib import Path

import pytest

from fbbase.commandline import run
from fblut.reading import read_lut
from fbprof.cli import fbprof
from fbprof.journal.journal import read_journal
from fbprof.plan.subject import is_network_key

DATA = Path(__file__).parents[1] / "data"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The journal names its space by a file beside it, as it was recorded."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(DATA / "replay.toml", tmp_path)
    journal = lzma.decompress((DATA / "replay.journal.jsonl.xz").read_bytes())
    (tmp_path / "replay.journal.jsonl").write_bytes(journal)
    return tmp_path


def test_the_recorded_run_gives_the_recorded_table_byte_for_byte(here: Path) -> None:
    assert run(fbprof, ["estimate", "replay.journal.jsonl", "-o", "t.csv"]) == 0
    assert (here / "t.csv").read_text(encoding="utf-8") == (DATA / "replay.csv").read_text(encoding="utf-8")


def test_the_recorded_run_has_what_the_estimator_is_for(here: Path) -> None:
    """Loads that count as independent, drift, samples that were preempted, and networks to calibrate by."""
    content, metadata = read_journal(here / "replay.journal.jsonl"), read_lut(DATA / "replay.csv").metadata
    assert content is not None
    operators = [key for key in content.counts if not is_network_key(key)]
    assert len(operators) == 10
    assert min(content.loads[key] for key in operators) >= 4
    assert metadata.calibration_networks == len(content.counts) - len(operators) == 12
    assert metadata.drift_range_percent
    assert sum(row.preempted for row in read_lut(DATA / "replay.csv").rows.values()) > 0


def test_a_replayed_device_gives_the_recorded_table_within_its_intervals(here: Path) -> None:
    """The same plan, another order: what varies is only which visits fall together."""
    (here / "r.toml").write_text('description = "x"\ntransport = "replay"\naddress.journal = "replay.journal.jsonl"\n')
    options = ["--space", "replay.toml", "--rounds", "80", "--calibrate", "12"]
    assert run(fbprof, ["measure", "--device", "r.toml", *options, "-o", "r.csv"]) == 0
    replayed, recorded = read_lut(here / "r.csv"), read_lut(DATA / "replay.csv")
    assert list(replayed.rows) == list(recorded.rows)
    for key, row in recorded.rows.items():
        latency_us = replayed.rows[key].latency_us
        assert latency_us == pytest.approx(row.latency_us, rel=0.02)
        assert row.ci_low_us < latency_us < row.ci_high_us  # type: ignore[operator]
    recorded_at = recorded.metadata.measured_at
    assert replayed.metadata.measured_at == recorded_at
    assert replayed.metadata.soc == f"replay of {recorded.metadata.soc}"
    assert replayed.metadata.verdict == "usable"
    assert replayed.metadata.warnings[0].startswith(f"replayed from a recording of {recorded_at}, not measured now")


def test_a_replay_is_replayed_as_what_was_recorded_first(here: Path) -> None:
    """Its own journal is a recording too, and still says when the device was measured."""
    profile = 'description = "x"\ntransport = "replay"\naddress.journal = "{}.journal.jsonl"\n'
    (here / "first.toml").write_text(profile.format("replay"))
    (here / "second.toml").write_text(profile.format("first"))
    options = ["--space", "replay.toml", "--rounds", "5", "--calibrate", "8"]
    for name in ("first", "second"):
        assert run(fbprof, ["measure", "--device", f"{name}.toml", *options]) == 0
    first, second = read_lut(here / "first.csv"), read_lut(here / "second.csv")
    assert (
        second.metadata.measured_at == first.metadata.measured_at == read_lut(DATA / "replay.csv").metadata.measured_at
    )
    assert [row.isolated_us for row in second.rows.values()] == [row.isolated_us for row in first.rows.values()]


def test_the_recorded_run_is_finished_and_measures_nothing_again(here: Path) -> None:
    before = (here / "replay.journal.jsonl").read_bytes()
    options = ["--space", "replay.toml", "--rounds", "80", "--calibrate", "12"]
    assert run(fbprof, ["measure", *options, "-o", "replay.csv"]) == 0
    assert (here / "replay.journal.jsonl").read_bytes() == before
    assert (here / "replay.csv").read_bytes() == (DATA / "replay.csv").read_bytes()


def test_estimate_tells_what_could_not_be_used(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    journal = here / "replay.journal.jsonl"
    lines = journal.read_text(encoding="utf-8").splitlines()
    zeroed = [re.sub(r'"(wall|cpu)_ns":\[[0-9,]*\]', r'"\1_ns":[0,0,0]', li) if "_k5_" in li else li for li in lines]
    journal.write_text("\n".join(zeroed) + "\n", encoding="utf-8")
    assert run(fbprof, ["estimate", "replay.journal.jsonl", "-o", "t.csv"]) == 0
    out = capsys.readouterr().out
    failed = sum("_k5_" in key for key in read_lut(here / "t.csv").rows)
    assert failed
    assert f"t.csv: {10 - failed} of 10 operators from " in out
    assert f"verdict: do not use\n  - {failed} of 10 operators could not be measured" in out
