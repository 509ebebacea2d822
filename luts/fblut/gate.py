"""Gate: whether a measurement is slower than another by more than a limit, beyond what both of them leave open."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from fblut.compare import Comparison
from fblut.speed import Speed
from fblut.table import Lut

MOST_LOG = 50.0
"""Of a ratio: an interval that goes farther tells nothing, and would be no number any more."""


@dataclass(slots=True)
class Answer:
    """What is slower by more than the limit, and what cannot be told, in words; both empty: nothing is slower."""

    slower: list[str] = field(default_factory=list)
    undecided: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Judged:
    """A ratio at one speed that is judged, where it is of, and half of the 95 % interval of its logarithm.

    `own_error` is what it must lie above the limit by, besides: it may hold the error of the speed, too.
    """

    where: str
    ratio: float
    error: float
    own_error: float


class Measured(Protocol):
    """What a gate asks of a measurement."""

    @property
    def verdict(self) -> str | None:
        """Whether it is to be used."""

    @property
    def speed_error_percent(self) -> float | None:
        """By how much the device's speed may be another in another run, None where that is not known."""


def judge(first: Lut, second: Lut, result: Comparison, limit_percent: float) -> Answer:
    """Judge a comparison of two tables: the mean of the operators, and each of its networks."""
    return judge_ratios(first.metadata, second.metadata, result.speed, _ratios(result), limit_percent, "table")


def judge_ratios(
    first: Measured, second: Measured, speed: Speed | None, ratios: Iterable[Judged], limit_percent: float, what: str
) -> Answer:
    """Judge ratios of two measurements; `what` these are in words.

    Slower is what lies above the limit with its whole 95 % interval, both as it was measured, where the devices'
    wandering speed counts, and at one speed, by the reference workload: the rest is the device's. What lies above it in
    one of the two only is not decided.
    """
    answer = Answer()
    for name, measured in (("the first", first), ("the second", second)):
        if measured.verdict == "do not use":
            answer.undecided.append(f"the verdict on {name} {what} is: do not use")
    if answer.undecided:
        return answer
    factor = speed.ratio if speed else 1.0
    of_speed = (speed.error_percent or 0) / 100 if speed else 0.0
    wandering = math.hypot(*((measured.speed_error_percent or 0) / 100 for measured in (first, second)))
    limit = math.log1p(limit_percent / 100)
    for each in ratios:
        half, own_half = math.hypot(each.error, wandering), math.hypot(each.error, of_speed)
        own, total = math.log(each.ratio), math.log(each.ratio * factor)
        high_percent = 100 * math.expm1(min(total + half, MOST_LOG))
        found = f"{100 * math.expm1(total):.1f} % {each.where} (95 % interval {100 * math.expm1(total - half):.1f} to "
        found += f"{high_percent:.1f} %)"
        if min(total - half, own - each.own_error) > limit:
            answer.slower.append(found)
        elif total - half > limit:
            answer.undecided.append(f"{found}, but so was the device: {speed} by the reference workload")
        elif total + half > limit:
            answer.undecided.append(found)
        elif own - own_half > limit:
            at_one_speed = f"{100 * (each.ratio - 1):.1f} % at one speed {each.where}"
            answer.undecided.append(f"{at_one_speed}, as the device was faster: {speed} by the reference workload")
    return answer


def _ratios(result: Comparison) -> Iterator[Judged]:
    ends = result.mean.interval
    error = math.log(ends[1] / ends[0]) / 2 if ends else 0.0
    yield Judged("in the mean of its operators", result.mean.ratio, error, error)
    for network in result.networks:
        yield Judged(f"for {network.name}", network.ratio, network.error or 0.0, network.error or 0.0)
