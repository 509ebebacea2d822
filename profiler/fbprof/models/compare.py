"""Compare: what results of fbprof profile say of the same models, on two devices or before and after a change."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fbbase.errors import FbError
from fblut.gate import Answer
from fblut.views import Section
from fbprof.models.result import Profiled, Result

SAME = ("device", "soc", "agent")
"""What must agree where a reference workload is to tell speeds apart."""


MOST_LOG = 50.0
"""Of a ratio: an interval that goes farther tells nothing, and would be no number any more."""


@dataclass(frozen=True, slots=True)
class ModelRatio:
    """A model in two results: second latency over first, and half of the 95 % interval of its logarithm.

    `speed` is by how much the whole device was slower in the second, by the reference workload; the ratio has it in it.
    """

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


def speed_between(first: Result, second: Result) -> tuple[float, float] | None:
    """Return how much longer the reference workload took in the second result, and half of its logarithm's interval.

    None for two devices, and where a result does not know it.
    """
    if first.reference_us is None or second.reference_us is None:
        return None
    if any(getattr(first, name) != getattr(second, name) for name in SAME):
        return None
    errors = [(each.reference_error_percent or 0) / 100 for each in (first, second)]
    return second.reference_us / first.reference_us, math.hypot(*errors)


def judge_results(first: Result, second: Result, ratios: Sequence[ModelRatio], limit_percent: float) -> Answer:
    """Judge whether models are slower by more than a limit: as measured, where the devices' wandering speed counts, and
    at one speed by the reference workload. What lies above the limit in one of both only is not decided.
    """
    answer = Answer()
    for name, result in (("the first", first), ("the second", second)):
        if result.verdict == "do not use":
            answer.undecided.append(f"the verdict on {name} result is: do not use")
    if answer.undecided:
        return answer
    limit = math.log1p(limit_percent / 100)
    speed = speed_between(first, second)
    wandering = math.hypot(*((each.speed_error_percent or 0) / 100 for each in (first, second)))
    for each in ratios:
        if each.error is None:
            answer.undecided.append(f"{each.name} has no interval: give more --rounds")
            continue
        total, half = math.log(each.ratio), math.hypot(each.error, wandering)
        own, own_half = (total - math.log(speed[0]), math.hypot(each.error, speed[1])) if speed else (total, half)
        found = f"{each.name}: {100 * math.expm1(total):.1f} % (95 % interval {100 * math.expm1(total - half):.1f} to "
        found += f"{100 * math.expm1(min(total + half, MOST_LOG)):.1f} %)"
        if total - half > limit and own - own_half > limit:
            answer.slower.append(found)
        elif total + half > limit or own - own_half > limit:
            answer.undecided.append(found)
    return answer


def sections_of(
    first: Result, second: Result, names: tuple[str, str], ratios: Sequence[ModelRatio]
) -> Iterator[Section]:
    """Yield a comparison as sections for a view."""
    rows: list[tuple[str | float | None, ...]] = []
    for each in ratios:
        ends = each.interval or (None, None)
        rows.append((each.name, *(us / 1e3 for us in each.latencies_us), each.ratio, *ends))
    speed = speed_between(first, second)
    words = [f"{names[0]}: {first.device}, {first.verdict}; {names[1]}: {second.device}, {second.verdict}"]
    if speed is not None:
        words.append(f"the device was {100 * (speed[0] - 1):+.1f} % slower in {names[1]}, by the reference workload")
    columns = ("model", "first ms", "second ms", "ratio", "95 % from", "to")
    digits = {"first ms": 3, "second ms": 3, "ratio": 3, "95 % from": 3, "to": 3}
    yield Section(f"{names[1]} against {names[0]}", tuple(words), columns, tuple(rows), digits)


def as_values(first: Result, second: Result, ratios: Sequence[ModelRatio]) -> dict[str, object]:
    """Return a comparison as JSON has it."""
    speed = speed_between(first, second)
    return {
        "speed": speed and speed[0],
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
