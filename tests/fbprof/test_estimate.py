"""From raw samples to rows: medians, spread and intervals against numpy, closed forms and simulation."""

import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from fbagents.protocol import Hello, Visit
from fbprof.estimate import estimate, half_widths_percent, interquartile_range, median_interval, without_outliers
from fbprof.journal import Failed, JournalContent, Session, Start, Visited
from fbprof.samples import usable_samples_us
from fbspace.opspec import OpSpec
from fbspace.space import Space

SPEC = OpSpec("conv", 3, 8, 32, 32)
OTHER = OpSpec("conv", 3, 16, 32, 32)
SPACE = Space("two", "", 3, 32, 2, (SPEC, OTHER), (), {0: ()})
HELLO = Hello(
    event="hello",
    protocol=1,
    agent="python",
    runtimes={"litert": "2.3.0"},
    threads=1,
    cores=None,
    clocks=("wall",),
    soc="chip",
    system="Linux",
)
IDENTITY = {
    "space": "fbnet",
    "device": "local",
    "runtime": "litert",
    "precision": "float32",
    "threads": 1,
    "cores": None,
    "runs": 3,
    "dropped": 1,
    "seed": 0,
}


def visit(key: str, wall_us: list[float], cpu_us: list[float] | None = None, warm_up: bool = False) -> Visited:
    raw = Visit(
        event="visit",
        index=0,
        model=key,
        start_ns=0,
        wall_ns=tuple(int(us * 1000) for us in wall_us),
        cpu_ns=tuple(int(us * 1000) for us in cpu_us) if cpu_us else None,
    )
    return Visited(key=key, warm_up=warm_up, visit=raw)


def journal(*records: Visited | Failed) -> JournalContent:
    content = JournalContent(Start(identity=IDENTITY, timing="t", started_at="2026-01-01", tool_version="0"))
    for record in (Session(hello=HELLO), *records):
        content.add(record)
    return content


def test_a_row_is_the_median_of_the_visits_without_warm_up_and_dropped_runs() -> None:
    visits = [
        visit(SPEC.key(), [900, 900, 900], warm_up=True),
        visit(SPEC.key(), [500, 10, 12]),
        visit(SPEC.key(), [500, 20, 22]),
        visit(SPEC.key(), [500, 30, 36]),
    ]
    row = estimate(journal(*visits), SPACE).rows[SPEC.key()]
    assert row.latency_us == row.isolated_us == 21  # visits' medians are 11, 21, 33
    assert row.samples == 6
    assert row.spread_us == pytest.approx(stats.iqr([10, 12, 20, 22, 30, 36]))
    assert row.ci_low_us is None  # three visits carry no 95 % interval


def test_preempted_samples_are_left_out_and_counted() -> None:
    visits = [visit(SPEC.key(), [5, 10, 4000], [5, 10, 11]), visit(SPEC.key(), [5, 12, 12], [5, 12, 12])]
    row = estimate(journal(*visits), SPACE).rows[SPEC.key()]
    assert row.latency_us == 11
    assert row.samples == 3
    assert row.preempted == 1


def test_an_operator_without_a_single_good_sample_has_no_latency() -> None:
    row = estimate(journal(visit(SPEC.key(), [5, 4000, 4000], [5, 10, 11])), SPACE).rows[SPEC.key()]
    assert row.latency_us is None
    assert row.status == "failed"
    assert row.preempted == 2
    assert "preempted" in row.notes


def test_failed_operators_keep_their_row_with_the_reason() -> None:
    lut = estimate(journal(visit(SPEC.key(), [5, 10, 10]), Failed(key=OTHER.key(), reason="it crashed")), SPACE)
    assert lut.rows[OTHER.key()].status == "failed"
    assert lut.rows[OTHER.key()].notes == "it crashed"
    assert lut.metadata.runtime_version == "2.3.0"
    assert (lut.metadata.rounds, lut.metadata.runs, lut.metadata.dropped) == (1, 3, 1)


def test_a_slow_half_of_the_run_does_not_change_the_ratio_of_two_operators() -> None:
    """SPEC takes 100 µs and OTHER 200 µs; from the middle on the device is 30 % slower, and OTHER is visited more."""
    generator = random.Random(2)
    visits = []
    for round_number in range(60):
        factor = 1.3 if round_number >= 30 else 1.0
        pair = [(SPEC, 100.0), (OTHER, 200.0)] if round_number < 30 else [(OTHER, 200.0)] * 3 + [(SPEC, 100.0)]
        for spec, us in generator.sample(pair, len(pair)):
            wall = us * factor * generator.lognormvariate(0, 0.003)
            visits.append(visit(spec.key(), [wall, wall, wall]))
    lut = estimate(journal(*visits), SPACE)
    plain = estimate(journal(*visits), SPACE, correct_drift=False)
    assert lut.latency_us(OTHER) / lut.latency_us(SPEC) == pytest.approx(2, rel=0.005)
    assert plain.latency_us(OTHER) / plain.latency_us(SPEC) > 2.2
    assert lut.metadata.drift_range_percent == pytest.approx(30, abs=3)


def test_half_widths_are_those_of_the_intervals_and_known_from_six_visits_on() -> None:
    latencies = [100.0, 101.0, 99.0, 100.5, 99.5, 100.0, 102.0, 98.0]
    visits = [visit(SPEC.key(), [us] * 3) for us in latencies] + [visit(OTHER.key(), [us] * 3) for us in latencies[:5]]
    low, high = median_interval(latencies) or (0, 0)
    assert half_widths_percent(journal(*visits)) == {SPEC.key(): pytest.approx(100 * (high - low) / 2 / 100)}


def test_disturbed_visits_do_not_pull_the_estimate() -> None:
    usual = [10.0, 10.1, 9.9, 10.0, 10.2, 9.8, 10.0, 10.1, 9.9, 10.0, 10.2]
    assert without_outliers([*usual, 14.0]) == usual
    assert without_outliers([*usual[:5], 14.0]) == [*usual[:5], 14.0]  # too few to judge by
    assert without_outliers([10.0] * 20 + [14.0]) == [10.0] * 20 + [14.0]  # no scale to judge by


def test_without_a_cpu_clock_every_sample_counts() -> None:
    assert usable_samples_us(visit("x", [5, 10, 4000]).visit, 1) == ([10.0, 4000.0], 0)


@pytest.mark.parametrize(("n", "rank"), [(5, None), (6, 1), (9, 2), (20, 6), (40, 14)])
def test_interval_ranks_are_the_binomial_ones(n: int, rank: int | None) -> None:
    """Against the exact binomial probability, and the published table of ranks for n = 6 … 40."""
    interval = median_interval(list(range(1, n + 1)))
    assert interval == (None if rank is None else (rank, n + 1 - rank))
    if rank is not None:
        assert 1 - 2 * stats.binom.cdf(rank - 1, n, 0.5) >= 0.95
        assert 1 - 2 * stats.binom.cdf(rank, n, 0.5) < 0.95


def test_intervals_cover_the_true_median_of_skewed_noise() -> None:
    generator = random.Random(1)
    covered = 0
    for _ in range(600):
        interval = median_interval([generator.lognormvariate(0, 0.3) for _ in range(40)])
        assert interval is not None
        covered += interval[0] <= 1 <= interval[1]
    assert 0.93 <= covered / 600 <= 0.99


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=50))
def test_the_interquartile_range_is_numpys(values: list[float]) -> None:
    low, high = np.percentile(values, [25, 75])
    assert math.isclose(interquartile_range(values), high - low, rel_tol=1e-9, abs_tol=1e-6)
