"""Compare: what results of fbprof profile say of the same models, on two devices or before and after a change."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fbbase.errors import FbError
from fblut.gate import MOST_LOG, Answer, Judged, judge_ratios
from fblut.speed import Speed, speed_between
from fblut.views import Section
from fbprof.models.result import Profiled, Result


@dataclass(frozen=True, slots=True)
class ModelRatio:
    """A model in two results as it was measured, and half of the 95 % interval of the logarithm of the ratio."""

    name: str
    first: Profiled
    second: Profiled
    error: float | None

    @property
    def latencies_us(self) -> tuple[float, float]:
        """Both latencies; only what was measured is compared."""
        return self.first.latency_us or math.nan, self.second.latency_us or math.nan

    @property
    def ratio(self) -> float:
        """Second latency over first."""
        return self.latencies_us[1] / self.latencies_us[0]

    @property
    def is_significant(self) -> bool | None:
        """Whether the ratio is another than one beyond its interval; None where it has none."""
        ends = self.interval
        return None if ends is None else not ends[0] <= 1 <= ends[1]

    @property
    def interval(self) -> tuple[float, float] | None:
        """Its 95 % interval; None where one of both has none."""
        if self.error is None:
            return None
        return self.ratio * math.exp(-self.error), self.ratio * math.exp(min(self.error, MOST_LOG))


def compare_results(first: Result, second: Result) -> list[ModelRatio]:
    """Return the ratios of models that both results have, by name; of results of one model each, whatever its name.

    Raises FbError where they have none in common.
    """
    ours, theirs = _measured(first), _measured(second)
    names = [(name, name) for name in ours if name in theirs]
    if not names and len(ours) == len(theirs) == 1:
        names = [(next(iter(ours)), next(iter(theirs)))]
    if not names:
        raise FbError(
            f"the results have no measured model in common: {', '.join(ours) or 'none'} there, "
            f"{', '.join(theirs) or 'none'} here"
        )
    return [
        ModelRatio(
            one if one == other else f"{one} → {other}", ours[one], theirs[other], _error(ours[one], theirs[other])
        )
        for one, other in names
    ]


def speed_of(first: Result, second: Result) -> Speed | None:
    """Return how fast one device was for two results, by the same agent; None where that is not known."""
    return speed_between(first, second) if first.agent == second.agent else None


def judge_results(first: Result, second: Result, ratios: Sequence[ModelRatio], limit_percent: float) -> Answer:
    """Judge whether models are slower by more than a limit, as `fblut.gate` judges tables."""
    speed = speed_of(first, second)
    known = []
    for each in ratios:
        if each.error is not None:
            at_one_speed = each.ratio / (speed.ratio if speed else 1.0)
            of_speed = (speed.error_percent or 0) / 100 if speed else 0.0
            known.append(Judged(f"for {each.name}", at_one_speed, each.error, math.hypot(each.error, of_speed)))
    answer = judge_ratios(first, second, speed, known, limit_percent, "result")
    if "do not use" not in (first.verdict, second.verdict):
        answer.undecided += [
            f"{each.name} has no interval: give more --rounds" for each in ratios if each.error is None
        ]
    return answer


def sections_of(
    first: Result, second: Result, names: tuple[str, str], ratios: Sequence[ModelRatio]
) -> Iterator[Section]:
    """Yield a comparison as sections for a view."""
    rows: list[tuple[str | float | None, ...]] = []
    for each in ratios:
        ends = each.interval or (None, None)
        rows.append((each.name, *(us / 1e3 for us in each.latencies_us), each.ratio, *ends))
    speed = speed_of(first, second)
    words = [f"{names[0]}: {first.device}, {first.verdict}; {names[1]}: {second.device}, {second.verdict}"]
    if speed is not None:
        words.append(f"the device was {speed} slower in {names[1]}, by the reference workload")
    columns = ("model", "first ms", "second ms", "ratio", "95 % from", "to")
    digits = {"first ms": 3, "second ms": 3, "ratio": 3, "95 % from": 3, "to": 3}
    yield Section(f"{names[1]} against {names[0]}", tuple(words), columns, tuple(rows), digits)


def as_values(first: Result, second: Result, ratios: Sequence[ModelRatio]) -> dict[str, object]:
    """Return a comparison as JSON has it."""
    speed = speed_of(first, second)
    return {
        "speed": speed and speed.ratio,
        "operators": [  # as a comparison of tables has them: views know no other word
            {
                "key": each.name,
                "first_us": each.latencies_us[0],
                "second_us": each.latencies_us[1],
                "ratio": each.ratio,
                "ratio_interval": each.interval,
                "significant": each.is_significant,
            }
            for each in ratios
        ],
    }


def _measured(result: Result) -> dict[str, Profiled]:
    return {each.name: each for each in result.models if each.latency_us is not None}


def _error(first: Profiled, second: Profiled) -> float | None:
    halves = [each.half_width_percent for each in (first, second)]
    return None if None in halves else math.hypot(*(half / 100 for half in halves if half is not None))
