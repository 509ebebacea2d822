"""A table's speed: against drifts that are put in, scipy's Student distribution, and a machine of two speeds."""

import lzma
import math
import shutil
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import scipy

from fbbase.commandline import run
from fblut.reading import read_lut
from fblut.speed import at_one_speed
from fblut.table import At
from fbprof.cli import fbprof
from fbprof.commands import measure
from fbprof.estimate.drift import Drift
from fbprof.estimate.speed import speed_error_percent, speed_factor
from fbprof.estimate.table import estimate
from fbprof.journal.journal import JournalContent
from fbprof.plan.plan import REFERENCES
from fbspace.opspec import OpSpec
from fbspace.space import Space
from journals import HELLO, journal, visit

DATA = Path(__file__).parents[1] / "data"
SPECS = [OpSpec("conv", 8 * number, 8 * number + 8, 32, 32) for number in range(1, 7)]
SPACE = Space("six", "", 8, 32, 2, tuple(SPECS), (), {0: ()})
KEYS = [spec.key() for spec in SPECS] + [subject.key for subject in REFERENCES]


def run_at(log_speed: np.ndarray, seed: int) -> JournalContent:
    """A run over all operators and the reference, each visit at its own speed and with noise of 1 %."""
    rng = np.random.default_rng(seed)
    visits = []
    for speed in log_speed:
        for number in rng.permutation(len(KEYS)):
            us = 100 * (number + 1) * math.exp(speed + rng.normal(0, 0.01))
            visits.append(visit(KEYS[number], [us, us, us]))
    return journal(*visits)


def test_the_factor_is_the_runs_fastest_twentieth_its_mean_or_its_end() -> None:
    drift = Drift(np.concatenate([np.full(60, -0.2), np.linspace(-0.1, 0.1, 80), np.full(60, 0.2)]), 4)
    assert speed_factor(drift, "peak") == pytest.approx(math.exp(-0.2))
    assert speed_factor(drift, "mean") == 1
    assert speed_factor(drift, "sustained-so-far") == pytest.approx(math.exp(0.2))
    assert [speed_factor(None, at) for at in get_args(At)] == [1, 1, 1]


def test_the_speeds_error_is_the_prediction_interval_of_another_tenth() -> None:
    """A tenth that is drawn like the ten before lies within it 95 times in a hundred."""
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(4000):
        parts = rng.normal(0, 0.02, 11)
        percent = speed_error_percent(Drift(np.repeat(parts[:10] - parts[:10].mean(), 30), 4))
        assert percent is not None
        inside += abs(parts[10] - parts[:10].mean()) <= math.log1p(percent / 100)
    assert scipy.stats.binomtest(inside, 4000, 0.95).pvalue > 0.01
    assert speed_error_percent(None) is None


@pytest.mark.parametrize("at", get_args(At))
def test_two_tables_of_a_machine_of_two_speeds_agree_at_one_speed(at: At) -> None:
    """One run at 1, the other at 1.3 for nine tenths of it."""
    first = estimate(run_at(np.zeros(100), 1), SPACE, at=at)
    second = estimate(run_at(np.where(np.arange(100) < 10, 0.0, math.log(1.3)), 2), SPACE, at=at)
    ratio = {"peak": 1.0, "mean": 1.3**0.9, "sustained-so-far": 1.3}[at]
    moved, speed = at_one_speed(first, second)
    assert speed is not None
    assert speed.ratio == pytest.approx(ratio, rel=0.02)
    assert second.metadata.at == at
    for key, row in first.rows.items():
        other = moved.rows[key]
        assert row.latency_us is not None
        assert other.latency_us == pytest.approx(row.latency_us, rel=0.01)
        assert second.rows[key].latency_us == pytest.approx(ratio * row.latency_us, rel=0.02)


def test_the_reference_is_the_geometric_mean_of_its_blocks_and_has_no_rows() -> None:
    lut = estimate(run_at(np.zeros(40), 3), SPACE)
    assert lut.rows.keys() == {spec.key() for spec in SPECS}
    assert lut.metadata.reference_us == pytest.approx((700 * 800 * 900) ** (1 / 3), rel=0.01)
    assert lut.metadata.small_reference_us == pytest.approx((1000 * 1100 * 1200) ** (1 / 3), rel=0.01)
    assert lut.metadata.reference_error_percent is not None
    assert 0 < lut.metadata.reference_error_percent < 1
    assert lut.metadata.rounds == 40
    without = journal(*(visit(KEYS[0], [5, 5, 5]) for _ in range(9)))
    assert estimate(without, SPACE).metadata.reference_us is None


def test_a_networks_interval_for_use_holds_the_speeds_error_and_that_at_this_speed_does_not() -> None:
    lut = estimate(run_at(np.repeat(np.random.default_rng(4).normal(0, 0.1, 10), 10), 5), SPACE)
    percent = lut.metadata.speed_error_percent
    assert percent is not None
    assert percent > 5
    use, here = lut.predict(SPECS), lut.predict(SPECS, at_this_speed=True)
    assert use.latency_us == here.latency_us
    halves = [(ends[1] - ends[0]) / 2 for ends in (use.interval, here.interval) if ends]
    assert halves[0] == pytest.approx(math.hypot(halves[1], use.latency_us * percent / 100))


def test_samples_that_cannot_be_are_left_out_counted_and_told() -> None:
    key = SPECS[0].key()
    hello = HELLO.model_copy(update={"overhead_ns": 200})
    visits = [visit(key, [9, us, 10]) for us in (0, 0.1, 0.2, 10, 10, 10, 10, 10, 4.6e15)]
    visits += [visit(SPECS[1].key(), [0, 0, 0]) for _ in range(3)]
    lut = estimate(journal(*visits, hello=hello), SPACE)
    assert (lut.rows[key].latency_us, lut.rows[key].samples) == (10, 14)
    failed = lut.rows[SPECS[1].key()]
    assert failed.status == "failed"
    assert failed.notes == "6 samples are too short or too long for the device's clock to be right"
    assert lut.metadata.verdict == "do not use"
    assert any(text.startswith("10 of 24 samples were left out: of no length") for text in lut.metadata.warnings)


def test_a_journal_gives_a_table_at_each_of_its_speeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (option,) = [each for each in measure.command.params if each.name == "at"]
    assert tuple(option.type.choices) == get_args(At)  # type: ignore[attr-defined]
    monkeypatch.chdir(tmp_path)
    shutil.copy(DATA / "replay.toml", tmp_path)
    Path("replay.journal.jsonl").write_bytes(lzma.decompress((DATA / "replay.journal.jsonl.xz").read_bytes()))
    tables = {}
    for at in get_args(At):
        assert run(fbprof, ["estimate", "replay.journal.jsonl", "--at", at, "-o", f"{at}.csv"]) == 0
        tables[at] = read_lut(Path(f"{at}.csv"))
        assert tables[at].metadata.at == at
    factors = []
    for at in ("peak", "sustained-so-far"):
        times = [[row.latency_us or 0.0 for row in tables[name].rows.values()] for name in (at, "mean")]
        ratios = [one / other for one, other in zip(*times, strict=True)]
        assert max(ratios) - min(ratios) < 1e-3
        assert ratios[0] == pytest.approx(tables[at].metadata.network_us / tables["mean"].metadata.network_us, rel=1e-3)
        factors.append(ratios[0])
    assert factors[0] < min(factors[1], 0.999)
