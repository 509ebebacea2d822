"""Bringing tables of one device to one speed, by the reference workload that was timed throughout each measurement."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from fblut.table import Lut

SAME = ("device", "soc", "runtime", "runtime_version", "threads", "cores", "timing")
"""Metadata that must agree: of other devices, or in another runtime, a ratio is a difference and no matter of speed."""


@dataclass(frozen=True, slots=True)
class Speed:
    """What the reference workload took for a second table over what it took for a first, and half of the 95 % interval.

    `error_percent` is None where a table does not know it.
    """

    ratio: float
    error_percent: float | None

    @property
    def slower_percent(self) -> float:
        """By how much the device was slower when the second table was measured; below 0, faster."""
        return 100 * (self.ratio - 1)

    def __str__(self) -> str:
        error = "" if self.error_percent is None else f" ± {self.error_percent:.1f}"
        return f"{self.slower_percent:+.1f}{error} %"


PROGRAM = "benchmark_model "
"""How an agent begins that is a program of others, with its arguments: by those the workload runs on a CPU or a GPU."""


class Anchored(Protocol):
    """A measurement with the reference workload: what SAME names, by which agent, and what the workload took."""

    @property
    def agent(self) -> str:
        """The agent that measured."""

    @property
    def reference_us(self) -> float | None:
        """What the reference workload took, None where that is not known."""

    @property
    def reference_error_percent(self) -> float | None:
        """Half of its 95 % interval, None where that is not known."""


def speed_between(first: Anchored, second: Anchored) -> Speed | None:
    """Return how fast one device was in two measurements; None for two devices, and where one does not tell."""
    known = first.reference_us, second.reference_us
    if known[0] is None or known[1] is None or any(getattr(first, name) != getattr(second, name) for name in SAME):
        return None
    if first.agent != second.agent and PROGRAM in (first.agent[: len(PROGRAM)], second.agent[: len(PROGRAM)]):
        return None
    errors = first.reference_error_percent, second.reference_error_percent
    both = None if errors[0] is None or errors[1] is None else math.hypot(errors[0], errors[1])
    return Speed(known[1] / known[0], both)


def at_one_speed(first: Lut, second: Lut) -> tuple[Lut, Speed | None]:
    """Return the second table at the speed of the first, and how they differed; as it is where that is not known."""
    speed = speed_between(first.metadata, second.metadata)
    return (second, None) if speed is None else (second.slowed(1 / speed.ratio), speed)


def all_at_one_speed(luts: Mapping[str, Lut]) -> tuple[dict[str, Lut], list[str]]:
    """Return tables at the speed of the first one of their device, and in words which were brought to it."""
    found: dict[str, Lut] = {}
    told = []
    for name, lut in luts.items():
        found[name] = lut
        for other in list(found)[:-1]:
            found[name], speed = at_one_speed(found[other], lut)
            if speed is not None:
                told.append(f"{name} is taken at the speed of {other}: the reference workload took {speed} in it")
                break
    return found, told
