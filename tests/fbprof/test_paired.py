"""By how much one model is slower than another, against closed forms and simulated devices."""

import math
import statistics
from collections.abc import Iterator

import numpy as np
import pytest
import scipy  # its parts are imported when they are used, not in every worker

from fbagents.agent.protocol import Loaded
from fbprof.journal.journal import JournalContent, ModelLoaded
from fbprof.models.paired import RELOAD_VISITS, Difference, PairedSchedule, difference
from fbprof.plan.plan import Plan
from fbprof.plan.subject import ModelSubject, Setting, model_key
from journals import journal, start, visit

OLD, NEW = model_key("A"), model_key("B")
PLAN = Plan(
    space="model files",
    device="local",
    rounds=100_000,
    models=tuple(
        ModelSubject(key=key, setting=Setting("litert"), content=b"", suffix=".tflite", inputs=()) for key in (OLD, NEW)
    ),
)


def loaded(key: str) -> ModelLoaded:
    """A model was loaded anew."""
    reply = Loaded(event="loaded", model=key, load_ns=1, outputs=1, output_sum=0.0, output_abs_sum=0.0)
    return ModelLoaded(key=key, loaded=reply)


def add_load(content: JournalContent, old_us: list[float], new_us: list[float], cpu: float | None = None) -> None:
    """Load both models anew and visit them in turns."""
    content.add(loaded(OLD))
    content.add(loaded(NEW))
    for one, other in zip(old_us, new_us, strict=True):
        for key, us in ((OLD, one), (NEW, other)):
            content.add(visit(key, [9e6, us, us], None if cpu is None else [cpu * us] * 3))


def test_the_mean_of_the_loads_medians_with_students_interval() -> None:
    content = journal()
    logs = [[0.01, 0.05, 0.03], [0.02, 0.06, 0.04], [0.07, 0.03, 0.05], [0.02, 0.02, 0.09]]
    for load in logs:
        add_load(content, [1000.0] * 3, [1000 * math.exp(log) for log in load])
    found = difference(content, OLD, NEW)
    assert found is not None
    middles = [statistics.median(load) for load in logs]
    half = scipy.stats.t.ppf(0.975, 3) * statistics.stdev(middles) / 2
    assert found.log_ratio == pytest.approx(statistics.mean(middles), abs=1e-6)
    assert found.half(0.95) == pytest.approx(half, abs=1e-6)
    assert (found.loads, found.pairs) == (4, 12)
    assert found.percent == pytest.approx(100 * math.expm1(statistics.mean(middles)), abs=1e-3)


def test_what_the_device_does_to_both_is_in_none_of_it() -> None:
    content = journal()
    speeds = [1.0, 1.7, 0.8, 2.5, 1.2, 1.0]
    for load in range(5):
        speed = [1000 * speeds[(load + i) % 6] for i in range(6)]
        add_load(content, speed, [1.03 * us for us in speed])
    found = difference(content, OLD, NEW)
    assert found is not None
    assert found.percent == pytest.approx(3, abs=1e-3)
    assert found.half(0.95) < 1e-5


def test_where_all_is_preempted_the_threads_own_time_counts() -> None:
    content = journal()
    for _ in range(3):
        add_load(content, [3000.0] * 4, [3300.0] * 4, cpu=0.5)
    found = difference(content, OLD, NEW)
    assert found is not None
    assert found.percent == pytest.approx(10, abs=0.01)
    assert found.pairs == 12


def test_without_a_round_of_both_nothing_is_said() -> None:
    assert difference(journal(visit(OLD, [1, 1, 1])), OLD, NEW) is None


@pytest.mark.parametrize(
    ("log_ratio", "deviation", "loads", "word", "within_3"),
    [
        (0.05, 0.01, 20, "slower", False),
        (-0.05, 0.01, 20, "faster", True),
        (0.0, 0.005, 20, "as fast", True),
        (0.0, 0.2, 4, "not told", None),
        (0.029, 0.02, 10, "slower", None),
        (0.02, 0.001, 10, "slower", True),
    ],
)
def test_words_and_the_answer_to_a_limit(
    log_ratio: float, deviation: float, loads: int, word: str, within_3: bool | None
) -> None:
    found = Difference(log_ratio, deviation, loads, 6 * loads)
    assert found.word == word
    assert found.within(3) is within_3


def test_its_sentence() -> None:
    assert str(Difference(math.log(1.041), 0.01, 30, 180)) == "NEW is 4.1 % slower (95 %: 3.7 to 4.5 %)"
    assert str(Difference(math.log(0.9), 0.01, 30, 180)) == "NEW is 10.0 % faster (95 %: -10.3 to -9.7 %)"
    assert str(Difference(0.0, 0.001, 30, 180)).startswith("NEW is as fast as OLD")
    assert str(Difference(0.0, 0.5, 3, 18)).startswith("no difference can be told")
    assert str(Difference(0.0, math.inf, 1, 6)).endswith("(a single load has no interval)")
    assert str(Difference(0.18, 0.2, 11, 66)) == "NEW seems slower, which is not certain (95 %: +4.7 to +36.9 %)"


def run_until_told(truth: float, seed: int, limit: float | None = None, most_loads: int = 30) -> Difference:
    """Let the schedule decide on a simulated device: 2 % between loads, 3 % between visits, a speed that wanders."""
    random = np.random.default_rng(seed)
    content = journal(first=start(space="model files"))
    schedule = PairedSchedule(PLAN, content, limit)
    while schedule.wanted(content.counts, content.failed) and content.loads[OLD] < most_loads:
        speed = 1000 * np.exp(np.cumsum(random.normal(0, 0.02, RELOAD_VISITS)))
        of_load = random.normal(0, 0.02, 2)
        old, new = (speed * np.exp(of_load[i] + random.normal(0, 0.03, RELOAD_VISITS)) for i in range(2))
        add_load(content, old.tolist(), (new * (1 + truth)).tolist())
    found = difference(content, OLD, NEW)
    assert found is not None
    return found


@pytest.mark.parametrize(("runs", "most"), [(20, 1), pytest.param(60, 3, marks=pytest.mark.full)])
def test_a_model_is_hardly_ever_told_from_itself(runs: int, most: int) -> None:
    words = [run_until_told(0.0, seed).word for seed in range(runs)]
    assert words.count("slower") + words.count("faster") <= most


@pytest.mark.parametrize(
    ("runs", "found_in", "held_in"), [(20, 19, 18), pytest.param(60, 57, 54, marks=pytest.mark.full)]
)
def test_a_difference_is_found_and_its_interval_holds_the_truth(runs: int, found_in: int, held_in: int) -> None:
    found = [run_until_told(0.03, 1000 + seed) for seed in range(runs)]
    assert sum(each.word == "slower" for each in found) >= found_in
    assert sum(each.interval_percent[0] <= 3 <= each.interval_percent[1] for each in found) >= held_in


def test_a_limit_ends_the_run_as_soon_as_it_is_clear() -> None:
    assert run_until_told(0.2, 1, limit=3).loads <= 9
    assert run_until_told(0.2, 1, limit=3).within(3) is False
    assert run_until_told(-0.2, 1, limit=3).within(3) is True


def test_both_take_turns_in_being_loaded_first() -> None:
    content = journal()
    schedule = PairedSchedule(PLAN, content, None)
    orders = []
    for visits in range(0, 4 * RELOAD_VISITS, RELOAD_VISITS):
        content.counts.update({OLD: visits - content.counts[OLD], NEW: visits - content.counts[NEW]})
        orders.append(next(iter(schedule.missing(content.counts, ()))))
    assert orders == [OLD, NEW, OLD, NEW]


def test_where_one_of_both_has_failed_nothing_more_is_visited() -> None:
    def wanted() -> Iterator[int]:
        content = journal()
        schedule = PairedSchedule(PLAN, content, None)
        content.counts.update({OLD: 6 * RELOAD_VISITS})
        yield from schedule.wanted(content.counts, {NEW: "it cannot be loaded"}).values()

    assert list(wanted()) == []
