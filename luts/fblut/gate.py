"""Gate: whether a table is slower than another by more than a limit, beyond what both of them leave open."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from fblut.compare import Comparison
from fblut.table import Lut


@dataclass(slots=True)
class Answer:
    """What is slower by more than the limit, and what cannot be told, in words; both empty: nothing is slower."""

    slower: list[str] = field(default_factory=list)
    undecided: list[str] = field(default_factory=list)


def judge(first: Lut, second: Lut, result: Comparison, limit_percent: float) -> Answer:
    """Judge a comparison of two tables: the mean of the operators, and each of its networks.

    Slower is what lies above the limit with its whole 95 % interval, both as it was measured, where the devices'
    wandering speed counts, and at one speed, by the reference workload: the rest is the device's. What lies above it in
    one of the two only is not decided.
    """
    answer = Answer()
    for name, lut in (("the first", first), ("the second", second)):
        if lut.metadata.verdict == "do not use":
            answer.undecided.append(f"the verdict on {name} table is: do not use")
    if answer.undecided:
        return answer
    speed = result.speed.ratio if result.speed else 1.0
    of_speed = (result.speed.error_percent or 0) / 100 if result.speed else 0.0
    wandering = math.hypot(*((lut.metadata.speed_error_percent or 0) / 100 for lut in (first, second)))
    limit = math.log1p(limit_percent / 100)
    for where, ratio, error in _ratios(result):
        half, own_half = math.hypot(error, wandering), math.hypot(error, of_speed)
        own, total = math.log(ratio), math.log(ratio * speed)
        found = f"{100 * (ratio * speed - 1):.1f} % {where} (95 % interval {100 * math.expm1(total - half):.1f} to "
        found += f"{100 * math.expm1(total + half):.1f} %)"
        if min(total - half, own - error) > limit:
            answer.slower.append(found)
        elif total - half > limit:
            answer.undecided.append(f"{found}, but so was the device: {result.speed} by the reference workload")
        elif total + half > limit:
            answer.undecided.append(found)
        elif own - own_half > limit:
            at_one_speed = f"{100 * (ratio - 1):.1f} % at one speed {where}"
            answer.undecided.append(
                f"{at_one_speed}, as the device was faster: {result.speed} by the reference workload"
            )
    return answer


def _ratios(result: Comparison) -> Iterator[tuple[str, float, float]]:
    """Yield what is judged: where, the ratio, and half of the interval of its logarithm."""
    ends = result.mean.interval
    yield "in the mean of its operators", result.mean.ratio, math.log(ends[1] / ends[0]) / 2 if ends else 0.0
    for network in result.networks:
        yield f"for {network.name}", network.ratio, network.error or 0.0
