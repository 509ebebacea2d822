"""From raw samples to rows: medians, spread and intervals against numpy, closed forms and simulation."""

import math
import random
from collections import Counter

import numpy as np
import pytest
import scipy
from hypothesis import given
from hypothesis import strategies as st

from fbagents.agent.cores import check_cores
from fbagents.agent.protocol import Loaded, State
from fbprof.estimate.calibrate import calibrate
from fbprof.estimate.samples import usable_samples_us
from fbprof.estimate.table import (
    estimate,
    half_widths_percent,
    interquartile_range,
    latency_of,
    median_interval,
    without_outliers,
)
from fbprof.journal.journal import Failed, JournalContent, ModelLoaded, Session, StateRead
from fbprof.journal.visits import Visited
from fbprof.plan.plan import calibration_networks
from fbspace.opspec import OpSpec
from fbspace.space import Space, load_space
from journals import HELLO, journal, start, visit

SPEC = OpSpec("conv", 3, 8, 32, 32)
OTHER = OpSpec("conv", 8, 16, 32, 32)
SPACE = Space("two", "", 3, 32, 2, (SPEC, OTHER), (), {0: ()})


def load(key: str) -> ModelLoaded:
    reply = Loaded(event="loaded", model=key, load_ns=1, outputs=1, output_sum=0, output_abs_sum=0)
    return ModelLoaded(key=key, loaded=reply)


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
    assert row.spread_us == pytest.approx(scipy.stats.iqr([10, 12, 20, 22, 30, 36]))
    assert row.ci_low_us is None  # three visits carry no 95 % interval


@pytest.mark.parametrize(
    ("asked", "bound", "cores", "words"),
    [
        (None, (0, 1), "any", "cores allowed 0,1,"),
        ("big", (4, 5, 6, 7), "4,5,6,7", "cores allowed 4,5,6,7 (big),"),
        ("4,5", (4, 5), "4,5", "cores allowed 4,5,"),
        ("6,7", (7,), "7", "cores allowed 7,"),  # 6 was off
    ],
)
def test_a_table_tells_the_cores_that_were_bound_and_the_word_that_was_asked_for(
    asked: str | None, bound: tuple[int, ...], cores: str, words: str
) -> None:
    content = journal(first=start(cores=asked), hello=HELLO.model_copy(update={"cores": bound}))
    content.add(StateRead(state=State(event="state", affinity=bound)))
    content.add(visit(SPEC.key(), [5, 10, 11]))
    metadata = estimate(content, SPACE).metadata
    assert metadata.cores == cores
    assert words in metadata.conditions
    assert cores == "any" or check_cores(metadata.cores) == cores  # as verify and validate read it


def test_a_table_tells_the_agents_overhead_and_does_not_subtract_it() -> None:
    content = journal(visit(SPEC.key(), [5, 10, 12]))
    assert "agent overhead not told" in estimate(content, SPACE).metadata.conditions
    content.sessions[0] = Session(hello=HELLO.model_copy(update={"overhead_ns": 700}))
    lut = estimate(content, SPACE)
    assert "agent overhead 0.70 µs per sample" in lut.metadata.conditions
    assert lut.rows[SPEC.key()].isolated_us == 11


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
    assert usable_samples_us(visit("x", [5, 10, 4000]).visit, 1) == ([10.0, 4000.0], 0, 0)


@pytest.mark.parametrize(("n", "rank"), [(5, None), (6, 1), (9, 2), (20, 6), (40, 14)])
def test_interval_ranks_are_the_binomial_ones(n: int, rank: int | None) -> None:
    """Against the exact binomial probability, and the published table of ranks for n = 6 … 40."""
    interval = median_interval(list(range(1, n + 1)))
    assert interval == (None if rank is None else (rank, n + 1 - rank))
    if rank is not None:
        assert 1 - 2 * scipy.stats.binom.cdf(rank - 1, n, 0.5) >= 0.95
        assert 1 - 2 * scipy.stats.binom.cdf(rank, n, 0.5) < 0.95


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


def test_with_enough_loads_the_latency_is_their_mean_with_students_interval() -> None:
    loads = [[10.0, 11.0, 40.0], [12.0, 13.0], [9.0], [10.0, 10.5, 11.0, 14.0], [12.0, 12.0, 12.0]]
    medians = [11, 12.5, 9, 10.75, 12]
    latency_us, interval = latency_of(loads)
    assert latency_us == pytest.approx(np.mean(medians))
    expected = scipy.stats.t.interval(0.95, len(medians) - 1, loc=np.mean(medians), scale=scipy.stats.sem(medians))
    assert interval == pytest.approx(expected)


def test_a_loads_disturbed_visits_do_not_move_its_median() -> None:
    usual = [10.0, 10.1, 9.9, 10.0, 10.2, 9.8, 10.0, 10.1, 9.9, 10.0, 10.2]
    quiet, disturbed = ([usual + [last] * 3] * 4 for last in (10.0, 14.0))
    assert latency_of(disturbed)[0] == pytest.approx(np.median(usual))
    assert latency_of(quiet)[0] == pytest.approx(10.0)


@pytest.mark.parametrize("count", range(1, 4))
def test_with_fewer_loads_it_is_the_median_of_all_visits(count: int) -> None:
    loads = [[10.0, 11.0, 12.0], [20.0, 21.0, 22.0], [30.0, 31.0, 32.0]][:count]
    visits = [us for load in loads for us in load]
    assert latency_of(loads) == (np.median(visits), median_interval(visits))


def test_loads_of_a_journal_are_told_apart() -> None:
    """Every load has its own speed; all visits of the first come before it is loaded a second time."""
    medians = [100.0, 104.0, 98.0, 103.0]
    records: list[Visited | ModelLoaded] = []
    for us in medians:
        records += [load(SPEC.key()), *[visit(SPEC.key(), [us] * 3)] * 5]
    row = estimate(journal(*records), SPACE).rows[SPEC.key()]
    low, high = scipy.stats.t.interval(0.95, 3, loc=np.mean(medians), scale=scipy.stats.sem(medians))
    assert (row.isolated_us, row.isolated_low_us, row.isolated_high_us) == pytest.approx((np.mean(medians), low, high))
    fewer = estimate(journal(*records[: 3 * 6]), SPACE).rows[SPEC.key()]
    assert fewer.isolated_us == 100.0  # of 100, 104 and 98


def test_an_interval_never_reaches_a_time_that_cannot_be() -> None:
    """One load of four that is slow by other work makes Student's interval wider than the latency."""
    latency_us, interval = latency_of([[10.0], [10.0], [10.0], [30.0]])
    assert interval is not None
    assert 0 < interval[0] < latency_us < interval[1]


def test_intervals_hold_what_a_load_changes() -> None:
    """Six loads of 12 visits; a load makes 2 % (standard deviation), a visit 0.5 %."""
    generator = random.Random(4)
    repetitions = 1000
    covered = by_visits = 0
    for _ in range(repetitions):
        loads = []
        for _ in range(6):
            level = generator.gauss(100, 2)
            loads.append([generator.gauss(level, 0.5) for _ in range(12)])
        _, interval = latency_of(loads)
        pooled = median_interval([us for load in loads for us in load])
        assert interval is not None
        assert pooled is not None
        covered += interval[0] <= 100 <= interval[1]
        by_visits += pooled[0] <= 100 <= pooled[1]
    assert 0.93 <= covered / repetitions <= 0.97
    assert by_visits / repetitions < 0.75


TINY = load_space("fbnet-tiny")
NETWORKS = calibration_networks(TINY, 24, seed=6)
MEASURED = list(dict.fromkeys(spec for network in NETWORKS for spec in network.specs))
"""What the networks are of; the space has more, which are not measured."""


def alone_us(spec: OpSpec) -> float:
    return 20 + spec.in_channels * spec.kernel * spec.expansion


def in_context(failed: OpSpec | None = None) -> JournalContent:
    """Operators, and networks that take 60 µs and their operators, which are slower there, 5x5 ones more so."""
    generator = random.Random(7)
    subjects = {spec.key(): alone_us(spec) for spec in MEASURED}
    for network in NETWORKS:
        sum_us = sum(alone_us(spec) * (1.2 if spec.kernel == 5 else 1.05) for spec in network.specs)
        subjects[network.key] = (60 + sum_us) * generator.lognormvariate(0, 0.004)
    records: list[Visited | Failed] = [Failed(key=failed.key(), reason="it crashed")] if failed else []
    for _ in range(7):
        for key in generator.sample([*subjects], len(subjects)):
            records.append(visit(key, [subjects[key]] * 3))
    return journal(*records)


def test_networks_put_the_rows_into_context() -> None:
    content = in_context()
    lut = estimate(content, TINY)
    assert list(lut.rows) == [spec.key() for spec in TINY.operators() if spec in MEASURED]
    counters = [Counter(network.specs) for network in NETWORKS]
    specs = [row.spec for row in lut.rows.values()]
    counts = np.array([[float(counter[spec]) for spec in specs] for counter in counters])
    isolated = np.array([int(1000 * alone_us(spec)) / 1000 for spec in specs])  # a journal holds whole nanoseconds
    wall_us = {record.key: record.visit.wall_ns[0] / 1000 for record in content.visits}
    calibration = calibrate(specs, isolated, counts, np.array([wall_us[network.key] for network in NETWORKS]))
    assert [row.isolated_us for row in lut.rows.values()] == pytest.approx(list(isolated))
    assert [row.latency_us for row in lut.rows.values()] == pytest.approx(list(isolated * calibration.factor))
    half = 1.96 * calibration.factor_error * isolated  # the operators alone have no noise here
    ends = [(row.ci_low_us, row.ci_high_us) for row in lut.rows.values()]
    assert [low for low, _ in ends] == pytest.approx(list(isolated * calibration.factor - half))
    assert [high for _, high in ends] == pytest.approx(list(isolated * calibration.factor + half))
    assert lut.metadata.calibration_networks == len(NETWORKS)
    assert lut.metadata.network_us == pytest.approx(calibration.network_us, abs=1e-3)
    assert lut.metadata.network_error_percent == pytest.approx(calibration.error_percent, abs=1e-3)


def test_networks_of_the_space_that_were_not_measured_are_predicted_in_context() -> None:
    content = in_context()
    lut, alone = estimate(content, TINY), estimate(content, TINY, calibrate_by=())
    unseen = [n for n in calibration_networks(TINY, 200, seed=8) if set(n.specs) <= set(MEASURED)]
    assert len(unseen) > 30
    for table, least, most in ((lut, 0.0, 0.02), (alone, 0.08, 1.0)):
        true_us = [60 + sum(alone_us(s) * (1.2 if s.kernel == 5 else 1.05) for s in n.specs) for n in unseen]
        predicted = [table.predict_us(n.specs) for n in unseen]
        error = np.mean(np.abs(np.array(predicted) / np.array(true_us) - 1))
        assert least <= error <= most


def test_a_table_may_be_calibrated_by_some_of_the_networks() -> None:
    content = in_context()
    some = {network.key for network in NETWORKS[:10]}
    lut = estimate(content, TINY, calibrate_by=some)
    only = JournalContent(content.start)
    only.add(content.sessions[0])
    for record in content.visits:
        if record.key in some or not record.key.startswith("network:"):
            only.add(record)
    assert lut.metadata.calibration_networks == 10
    again = estimate(only, TINY)
    assert [row.latency_us for row in lut.rows.values()] == pytest.approx([r.latency_us for r in again.rows.values()])


def test_too_few_networks_leave_the_table_as_it_is() -> None:
    few = {network.key for network in NETWORKS[:7]}
    lut = estimate(in_context(), TINY, calibrate_by=few)
    assert all(row.latency_us == row.isolated_us for row in lut.rows.values())
    assert (lut.metadata.calibration_networks, lut.metadata.network_us) == (0, 0.0)
    assert lut.metadata.network_error_percent is None


def test_networks_with_an_operator_that_failed_do_not_calibrate() -> None:
    having = {spec: sum(spec in network.specs for network in NETWORKS) for spec in MEASURED}
    failed, count = next((spec, count) for spec, count in having.items() if 0 < count <= 5)
    lut = estimate(in_context(failed), TINY)
    assert lut.rows[failed.key()].latency_us is None
    assert lut.metadata.calibration_networks == len(NETWORKS) - count
