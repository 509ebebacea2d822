"""Bringing tables of one device to one speed, by the reference workload that was timed throughout each measurement.

A device has no single speed: beside other work, blocks and networks of millions of multiply-accumulates became 5 %
slower, while operators of a few ten thousands, most of whose time is not computing, did not. What is timed alone is
brought to a speed by its size therefore, between that of the workload's large blocks and that of its small ones.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from fblut.table import Lut
from fbspace.blocks import block_of
from fbspace.opspec import OpSpec

SAME = ("device", "soc", "runtime", "runtime_version", "threads", "cores", "timing")
"""Metadata that must agree: of other devices, or in another runtime, a ratio is a difference and no matter of speed."""


LARGE = tuple(
    OpSpec("ir", channels, channels, size, size, kernel=kernel, expansion=expansion)
    for channels, size, kernel, expansion in ((16, 56, 3, 1.0), (32, 14, 5, 3.0), (64, 7, 3, 6.0))
)
"""The reference workload: the same blocks in every measurement, whatever is measured, early, middle and late ones of
FBNet's space. Networks change their speed as these do."""
SMALL = tuple(
    OpSpec("ir", channels, channels, size, size, kernel=kernel, expansion=1.0)
    for channels, size, kernel in ((16, 8, 3), (24, 4, 5), (32, 4, 3))
)
"""What is as small as the smallest operators of a space for small images."""


@dataclass(frozen=True, slots=True)
class Speed:
    """What the reference workload took for a second table over what it took for a first, and half of the 95 % interval.

    `ratio` is that of the large blocks, `small_ratio` that of the small ones, None where a table does not have it.
    `error_percent` is that of the less certain of them, None where a table does not know it.
    """

    ratio: float
    error_percent: float | None
    small_ratio: float | None = None

    def alone(self, spec: OpSpec) -> float:
        """Return the ratio for an operator that was timed alone, by its multiply-accumulates."""
        macs = _macs(spec)
        if self.small_ratio is None or macs is None:
            return self.ratio
        share = min(max(math.log(max(macs, 1) / SMALL_MACS) / math.log(LARGE_MACS / SMALL_MACS), 0.0), 1.0)
        return math.exp(share * math.log(self.ratio) + (1 - share) * math.log(self.small_ratio))

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
    return Speed(known[1] / known[0], _both(first.reference_error_percent, second.reference_error_percent))


def _both(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else math.hypot(first, second)


def at_one_speed(first: Lut, second: Lut) -> tuple[Lut, Speed | None]:
    """Return the second table at the speed of the first, and how they differed; as it is where that is not known."""
    speed = speed_between(first.metadata, second.metadata)
    if speed is None:
        return second, None
    small = first.metadata.small_reference_us, second.metadata.small_reference_us
    if small[0] is None or small[1] is None:
        return second.slowed(1 / speed.ratio), speed
    own = _both(first.metadata.small_reference_error_percent, second.metadata.small_reference_error_percent)
    worse = None if speed.error_percent is None or own is None else max(speed.error_percent, own)
    by_size = replace(speed, small_ratio=small[1] / small[0], error_percent=worse)
    moved = second.slowed(1 / speed.ratio, lambda spec: 1 / by_size.alone(spec))
    return Lut(moved.metadata.model_copy(update={"small_reference_us": small[0]}), moved.rows), by_size


def _macs(spec: OpSpec) -> int | None:
    """Return an operator's multiply-accumulates where its block has a closed form: a lab host has no torch."""
    counts = block_of(spec).count(spec)
    return None if counts is None else counts[0]


def _mean_macs(specs: Sequence[OpSpec]) -> float:
    return statistics.geometric_mean(filter(None, map(_macs, specs)))


SMALL_MACS, LARGE_MACS = _mean_macs(SMALL), _mean_macs(LARGE)


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
