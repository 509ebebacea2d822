"""Paired: by how much one model is slower than another, from visits that alternate, and when that is certain enough.

Both are visited in every round, in random order, so that a pair shares the device's speed of its moment; both are
loaded anew together, by a new process of the agent: where a model lies in memory is drawn with each load, and part of
that with each process (2 % of a network's latency by loads, and 2 % by processes, LiteRT on two cores of a server). So
loads, not visits, vary independently: the estimate is the mean over loads of the median log ratio of their pairs, its
interval Student's.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from fblut.statistics import student_quantile
from fbprof.estimate.samples import mostly_preempted, usable_samples_us
from fbprof.estimate.table import without_outliers
from fbprof.journal.journal import JournalContent
from fbprof.measure.schedule import Schedule
from fbprof.plan.plan import Plan

RELOAD_VISITS = 6
"""Visits after which both models are loaded anew: few, as loads are what counts."""
FIRST_LOADS = 6
GROWTH = 1.5
"""By so much more loads there are at each look: looks are few, and each could err."""
LOOK_CONFIDENCE = 0.99
"""Of the interval by which the run ends: there are about eight looks, correlated, so that one of twenty runs at most
ends with a difference that is none."""
CONFIDENCE = 0.95
WITHIN_PERCENT = 0.5
"""Without a limit to judge by, a difference that is surely smaller than this is none that matters."""
SHARE = 0.2
"""A difference is told when it is known within so much of itself."""

Word = Literal["slower", "faster", "as fast", "not told"]


@dataclass(frozen=True, slots=True)
class Difference:
    """The logarithm of a model's latency over another's, its error by loads, and what it was estimated from."""

    log_ratio: float
    deviation: float
    loads: int
    pairs: int

    def half(self, confidence: float) -> float:
        """Return half of the interval of this confidence; infinite for less than two loads."""
        if self.loads < 2:
            return math.inf
        return student_quantile(self.loads - 1, (1 + confidence) / 2) * self.deviation / math.sqrt(self.loads)

    @property
    def percent(self) -> float:
        """By how much the second is slower."""
        return 100 * math.expm1(self.log_ratio)

    @property
    def interval_percent(self) -> tuple[float, float]:
        """The 95 % interval of that."""
        half = self.half(CONFIDENCE)
        return 100 * math.expm1(self.log_ratio - half), 100 * math.expm1(min(self.log_ratio + half, 20.0))

    @property
    def word(self) -> Word:
        """Whether the second is slower or faster beyond doubt, as fast within WITHIN_PERCENT, or none of it."""
        half = self.half(LOOK_CONFIDENCE)
        if self.log_ratio - half > 0:
            return "slower"
        if self.log_ratio + half < 0:
            return "faster"
        low, high = self.interval_percent
        return "as fast" if max(-low, high) <= 2 * WITHIN_PERCENT else "not told"

    def __str__(self) -> str:
        low, high = self.interval_percent
        ends = f"95 %: {low:+.1f} to {high:+.1f} %" if self.loads > 1 else "a single load has no interval"
        if self.word == "slower":
            return f"NEW is {self.percent:.1f} % slower ({ends.replace('+', '')})"
        if self.word == "faster":
            return f"NEW is {-self.percent:.1f} % faster ({ends})"
        if self.word == "as fast":
            return f"NEW is as fast as OLD ({ends})"
        if low > 0 or high < 0:
            return f"NEW seems {'slower' if low > 0 else 'faster'}, which is not certain ({ends})"
        return f"no difference can be told between NEW and OLD ({ends})"

    def within(self, limit_percent: float) -> bool | None:
        """Whether the second is slower by at most a limit; None where that cannot be told."""
        limit, half = math.log1p(limit_percent / 100), self.half(LOOK_CONFIDENCE)
        if self.log_ratio + half <= limit:
            return True
        return False if self.log_ratio - half > limit else None

    def is_enough(self, limit_percent: float | None) -> bool:
        """Whether nothing is to be gained by measuring on."""
        if limit_percent is not None:
            return self.within(limit_percent) is not None
        half = self.half(LOOK_CONFIDENCE)
        is_told = self.word in ("slower", "faster") and half <= SHARE * abs(self.log_ratio)
        return is_told or half <= math.log1p(WITHIN_PERCENT / 100)


def difference(content: JournalContent, first: str, second: str) -> Difference | None:
    """Return by how much the second of two keys is slower; None where no round has a sample of both."""
    dropped = int(content.start.identity["dropped"])
    by_cpu_time = bool(mostly_preempted(content, (first, second)))
    rounds: dict[str, list[tuple[int, float | None]]] = {first: [], second: []}
    visits = [(each.key, each.visit, load) for each, load in zip(content.visits, content.load_numbers, strict=True)]
    visits = [each for each in visits if each[0] in rounds]
    of_walls = any(
        visit.cpu_ns is None for _, visit, _ in visits
    )  # one has more threads: what is left out must be alike
    for key, visit, load in visits:
        like = visit.model_copy(update={"cpu_ns": None}) if of_walls else visit
        kept, _, _ = usable_samples_us(like, dropped, by_cpu_time=by_cpu_time)
        rounds[key].append((load, statistics.median(kept) if kept else None))
    by_load: dict[tuple[int, int], list[float]] = {}
    for (one, us), (other, other_us) in zip(rounds[first], rounds[second], strict=False):
        if us is not None and other_us is not None:
            by_load.setdefault((one, other), []).append(math.log(other_us / us))
    if not by_load:
        return None
    loads = [statistics.median(without_outliers(logs)) for logs in by_load.values()]
    deviation = statistics.stdev(loads) if len(loads) > 1 else math.inf
    return Difference(statistics.fmean(loads), deviation, len(loads), sum(map(len, by_load.values())))


class PairedSchedule(Schedule):
    """Visits two models in turns until their difference is known well enough to answer what was asked."""

    in_new_processes = True

    def __init__(self, plan: Plan, content: JournalContent, limit_percent: float | None) -> None:
        super().__init__(plan, (), dict)
        self._content, self._limit_percent = content, limit_percent
        self._first, self._second = self._keys
        self._loads = FIRST_LOADS
        self._targets = dict.fromkeys(self._keys, self._loads * RELOAD_VISITS)

    def missing(self, counts: Mapping[str, int], failed: Sequence[str]) -> dict[str, int]:  # type: ignore[override]
        """Return how many more visits each needs; the order, in which both are loaded, changes from load to load."""
        found = super().missing(counts, failed)
        is_turned = counts[self._first] // RELOAD_VISITS % 2
        return dict(sorted(found.items(), key=lambda item: item[0] != self._keys[is_turned]))

    def _raise_targets(self, counts: Mapping[str, int], failed: Sequence[str]) -> None:  # type: ignore[override]
        if failed:
            return  # there is nothing to compare any more
        found = difference(self._content, self._first, self._second)
        if found is not None and found.is_enough(self._limit_percent):
            return
        while self._loads * RELOAD_VISITS <= counts[self._first]:
            self._loads = math.ceil(self._loads * GROWTH)
        self._targets = dict.fromkeys(self._keys, self._loads * RELOAD_VISITS)
