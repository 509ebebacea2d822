"""The schedule: who is visited how often and in which order, for intervals that are made up or fall with √n."""

import dataclasses
import itertools
import math
from collections import Counter
from collections.abc import Mapping

import numpy as np
import pytest
import scipy
from hypothesis import given
from hypothesis import strategies as st

from fbprof.measure.schedule import Schedule, fitting_first
from fbprof.plan.plan import Plan, from_light_to_heavy
from fbspace.network import count_spec
from fbspace.space import load_space

# as docs/measuring/method.md says
MIN_ROUNDS, STAY_ROUNDS = 80, 7
REFERENCE_EVERY = 8
BLOCK_S, GROWTH = 5.0, 2

OPERATORS = tuple(load_space("fbnet-tiny").operators())
KEYS = [spec.key() for spec in OPERATORS]
A, B, C, D = KEYS[:4]


def plan_of(operators: int = 4, **changes: object) -> Plan:
    fields = {
        "space": "fbnet-tiny",
        "device": "local",
        "runtime": "litert",
        "precision": "float32",
        "threads": 1,
        "cores": None,
        "runs": 3,
        "dropped": 1,
        "seed": 0,
        "operators": OPERATORS[:operators],
        "ci_percent": 1.0,
    }
    return Plan(**(fields | changes))  # type: ignore[arg-type]


def schedule_of(plan: Plan, widths: Mapping[str, float] | None = None, references: tuple[str, ...] = ()) -> Schedule:
    """A schedule that must not ask for intervals unless there are some."""

    def half_widths() -> Mapping[str, float]:
        assert widths is not None, "intervals were looked at"
        return widths

    return Schedule(plan, references, half_widths)


@pytest.mark.parametrize(("rounds", "least"), [(400, MIN_ROUNDS), (10, 10)])
def test_everything_is_visited_so_often_before_an_interval_is_looked_at(rounds: int, least: int) -> None:
    schedule = schedule_of(plan_of(rounds=rounds))
    assert schedule.wanted(Counter(), ()) == dict.fromkeys(KEYS[:4], least)
    counts = Counter({A: least - 1, B: 1, C: least, D: least + 5})  # references are ahead of the others
    assert schedule.wanted(counts, ()) == {A: 1, B: least - 1}


def test_only_what_is_wider_than_asked_is_visited_again_as_often_as_its_interval_asks_for() -> None:
    plan = plan_of(6, ci_percent=1.0)
    widths = {KEYS[0]: 0.3, KEYS[1]: 1.0, KEYS[2]: 1.2, KEYS[3]: 1.001, KEYS[4]: 50.0}  # KEYS[5] is not known yet
    visits = 100
    counts = Counter(dict.fromkeys(KEYS[:6], visits))
    wanted = schedule_of(plan, widths).wanted(counts, ())
    assert set(wanted) == set(KEYS[2:6])
    assert 1.2**2 * visits <= visits + wanted[KEYS[2]] <= 1.2**2 * visits + 2
    assert 10 <= wanted[KEYS[3]] <= 12  # a tenth more, lest it be looked at again and again
    for key in KEYS[4:6]:
        assert GROWTH * visits <= visits + wanted[key] <= GROWTH * visits + 1


def test_nothing_is_visited_more_than_rounds_times() -> None:
    most = MIN_ROUNDS + 48
    plan = plan_of(rounds=most, ci_percent=0.1)
    widths = dict.fromkeys(KEYS[:4], 50.0)
    counts = Counter({A: most - 10, B: most, C: most + 10, D: MIN_ROUNDS})
    assert schedule_of(plan, widths).wanted(counts, ()) == {A: 10, D: 48}
    assert schedule_of(plan).wanted(Counter(dict.fromkeys(KEYS[:4], most)), ()) == {}


def test_what_failed_is_never_wanted() -> None:
    plan = plan_of(rounds=400)
    assert set(schedule_of(plan).wanted(Counter(), {A: "no kernel"})) == {B, C, D}
    widths = dict.fromkeys([B, C, D], 9.0)
    counts = Counter({A: 3, B: MIN_ROUNDS, C: MIN_ROUNDS, D: MIN_ROUNDS})
    assert set(schedule_of(plan, widths).wanted(counts, {A: "lost"})) == {B, C, D}
    assert schedule_of(plan).wanted(Counter(), dict.fromkeys(KEYS[:4], "lost")) == {}


def test_what_is_missing_does_not_change_until_intervals_are_looked_at_again() -> None:
    widths = {A: 2.0, B: 0.1, C: 0.1, D: 0.1}
    schedule = schedule_of(plan_of(), widths)
    counts = Counter(dict.fromkeys(KEYS[:4], MIN_ROUNDS))
    assert schedule.missing(counts, ()) == {}
    first = schedule.wanted(counts, ())
    widths[A], widths[B] = 0.1, 9.0
    assert schedule.missing(counts, ()) == schedule.wanted(counts, ()) == first
    counts[A] += first[A]
    assert set(schedule.wanted(counts, ())) == {B}


@given(
    deviations=st.lists(st.floats(0.1, 60), min_size=1, max_size=6),
    ci_percent=st.floats(0.3, 5),
    rounds=st.integers(1, 300),
    broken=st.integers(0, 6),
    with_references=st.booleans(),
)
def test_a_run_ends_with_everything_known_well_enough_or_visited_rounds_times(
    deviations: list[float], ci_percent: float, rounds: int, broken: int, with_references: bool
) -> None:
    """Half-widths fall with the root of the number of visits; one model may fail after its first visits."""
    plan = plan_of(len(deviations), ci_percent=ci_percent, rounds=rounds)
    keys = KEYS[: len(deviations)]
    deviation = dict(zip(keys, deviations, strict=True))
    failed = {KEYS[broken]: "lost"} if broken < len(keys) else {}
    counts: Counter[str] = Counter()

    def half_widths() -> dict[str, float]:
        return {key: deviation[key] / math.sqrt(count) for key, count in counts.items()}

    schedule = Schedule(plan, keys[:2] if with_references else (), half_widths)
    looks = blocks = 0
    while wanted := schedule.wanted(counts, failed):
        looks += 1
        assert looks < 80
        while wanted:
            order = [key for key in schedule.block(wanted, dict.fromkeys(keys, 0.01), blocks) if key not in failed]
            assert order
            counts.update(order)
            blocks += 1
            wanted = schedule.missing(counts, failed)
    for key in set(keys) - set(failed):
        enough = (deviation[key] / ci_percent) ** 2
        assert counts[key] >= min(MIN_ROUNDS, rounds)
        assert counts[key] >= rounds or deviation[key] / math.sqrt(counts[key]) <= ci_percent
        if not with_references:
            assert counts[key] <= min(rounds, max(MIN_ROUNDS, 1.1 * enough + 3))
    assert not counts.keys() & failed.keys()


@given(st.lists(st.floats(0.0002, 4), min_size=1, max_size=12))
def test_a_block_is_as_many_whole_rounds_as_fit_into_its_length(durations_s: list[float]) -> None:
    keys = KEYS[: len(durations_s)]
    visit_s = dict(zip(keys, durations_s, strict=True))
    order = schedule_of(plan_of(len(keys))).block(dict.fromkeys(keys, 1000), visit_s, 0)
    rounds, rest = divmod(len(order), len(keys))
    length_s = sum(visit_s[key] for key in order)
    assert rest == 0
    assert 1 <= rounds <= STAY_ROUNDS
    assert rounds == 1 or length_s <= BLOCK_S * (1 + 1e-9)
    assert rounds == STAY_ROUNDS or length_s + sum(durations_s) > BLOCK_S * (1 - 1e-9)


def test_a_block_is_one_round_as_long_as_durations_are_not_known() -> None:
    order = schedule_of(plan_of()).block(dict.fromkeys(KEYS[:4], 80), {A: 0.001, B: 0.001, C: 0.001}, 0)
    assert sorted(order) == sorted(KEYS[:4])


def test_rounds_are_permutations_of_what_is_still_wanted() -> None:
    wanted = {key: 1 + index for index, key in enumerate(KEYS[:12])}
    order = schedule_of(plan_of(12)).block(wanted, dict.fromkeys(KEYS, 0.001), 3)
    assert Counter(order) == {key: min(left, STAY_ROUNDS) for key, left in wanted.items()}
    start = 0
    for number in range(STAY_ROUNDS):
        expected = {key for key, left in wanted.items() if left > number}
        assert set(order[start : start + len(expected)]) == expected
        start += len(expected)
    assert start == len(order)


def test_the_seed_and_the_number_of_a_block_decide_its_order() -> None:
    wanted, visit_s = dict.fromkeys(KEYS[:12], STAY_ROUNDS), dict.fromkeys(KEYS, 0.001)
    schedule = schedule_of(plan_of(12))
    again, other = schedule_of(plan_of(12)), schedule_of(plan_of(12, seed=1))
    rounds = set()
    for number in range(20):
        order = schedule.block(wanted, visit_s, number)
        assert again.block(wanted, visit_s, number) == order
        assert other.block(wanted, visit_s, number) != order
        rounds |= {tuple(order[start : start + 12]) for start in range(0, len(order), 12)}
    assert len(rounds) == 20 * STAY_ROUNDS


def test_every_model_is_as_often_first_as_last() -> None:
    wanted, visit_s = dict.fromkeys(KEYS[:6], STAY_ROUNDS), dict.fromkeys(KEYS, 0.001)
    schedule = schedule_of(plan_of(6))
    places: dict[str, Counter[int]] = {key: Counter() for key in KEYS[:6]}
    for number in range(60):
        for place, key in enumerate(schedule.block(wanted, visit_s, number)):
            places[key][place % 6] += 1
    table = [[places[key][place] for place in range(6)] for key in KEYS[:6]]
    assert scipy.stats.chi2_contingency(table).pvalue > 0.01


def test_references_recur_one_after_the_other_between_the_visits() -> None:
    wanted, visit_s = dict.fromkeys(KEYS[4:17], STAY_ROUNDS), dict.fromkeys(KEYS, 0.001)
    plan = plan_of(17)
    order = schedule_of(plan, references=(A, B, C)).block(wanted, visit_s, 5)
    distance = REFERENCE_EVERY + 1
    recurring = order[REFERENCE_EVERY::distance]
    assert recurring == [(A, B, C)[(5 + index) % 3] for index in range(13 * STAY_ROUNDS // REFERENCE_EVERY)]
    assert not {A, B, C} & {key for index, key in enumerate(order) if index % distance != REFERENCE_EVERY}
    del order[REFERENCE_EVERY::distance]
    assert order == schedule_of(plan).block(wanted, visit_s, 5)


@pytest.mark.parametrize("count", [1, 4, 16])
def test_some_operators_from_light_to_heavy_are_one_of_every_size(count: int) -> None:
    operators = OPERATORS[15::-1]
    chosen = from_light_to_heavy(operators, count)
    macs = [count_spec(spec).macs for spec in chosen]
    assert macs == sorted(macs)
    by_size = sorted(count_spec(spec).macs for spec in operators)
    for number, part in enumerate(np.array_split(by_size, count)):
        assert part[0] <= macs[number] <= part[-1]
    assert len(set(chosen)) == count
    assert (
        set(from_light_to_heavy(operators[:3], 3)) == set(from_light_to_heavy(operators[:3], 9)) == set(operators[:3])
    )


def test_the_least_visited_are_loaded_first_and_what_is_there_before_others() -> None:
    counts = Counter({A: 2 * STAY_ROUNDS + 5, B: 3, C: STAY_ROUNDS - 1, D: STAY_ROUNDS + 2})
    wanted = dict.fromkeys([A, B, C, D], 9)
    assert fitting_first(wanted, counts, {C, D}) == [C, B, D, A]
    assert fitting_first(wanted, counts, {A}) == [B, C, D, A]
    assert fitting_first({D: 1, A: 1}, counts, {A, B}) == [D, A]


def test_a_subject_may_run_after_itself() -> None:
    wanted, visit_s = dict.fromkeys(KEYS[:5], 3), dict.fromkeys(KEYS, 0.001)
    plan = dataclasses.replace(plan_of(5), before="itself")
    order = Schedule(plan, ("reference",), dict).block(wanted, visit_s, 0)
    assert [key for key, _ in itertools.groupby(order)][:5] != KEYS[:5]  # shuffled
    assert [len(list(visits)) for _, visits in itertools.groupby(order)] == [3] * 6
    assert order[-1] == "reference"
    assert plan.identity() != plan_of(5).identity()
    assert plan.timing != plan_of(5).timing
