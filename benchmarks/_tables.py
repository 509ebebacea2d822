"""Tables measured in processes of their own, quietly or beside other work, and how far two of them differ."""

import contextlib
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from _report import Figure

from fblut.reading import read_lut
from fblut.speed import Speed, at_one_speed
from fblut.table import Lut

COLUMNS = {
    "isolated": ("isolated_us", "isolated_low_us", "isolated_high_us"),
    "in_network": ("latency_us", "ci_low_us", "ci_high_us"),
}


def measure(table: Path, arguments: list[str]) -> Lut:
    """Run `fbprof measure` in a process of its own and return the table."""
    argv = [sys.executable, "-m", "fbprof", "measure", "--fresh", *arguments, "-o", str(table)]
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
    return read_lut(table)


@contextlib.contextmanager
def hog(busy_s: float, idle_s: float) -> Iterator[None]:
    """Keep one core busy, so many seconds after so many idle ones."""
    code = f"""
import time
while True:
    start = time.monotonic()
    while time.monotonic() - start < {busy_s}:
        pass
    time.sleep({idle_s})
"""
    process = subprocess.Popen([sys.executable, "-c", code])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def differences(first: Lut, second: Lut, prefix: str, speed: Speed | None = None) -> tuple[np.ndarray, float]:
    """Return |second/first − 1| of every entry in percent, and the share of entries whose intervals overlap.

    `speed` is that by which the second was brought to the first one's; its error is the second one's, too.
    """
    error = ((speed and speed.error_percent) or 0.0) / 100
    latency, low, high = COLUMNS[prefix]
    ratios, overlaps = [], []
    for key, row in first.rows.items():
        other = second.rows[key]
        us = getattr(other, latency)
        ratios.append(us / getattr(row, latency))
        below, above = us - getattr(other, low), getattr(other, high) - us
        below, above = (math.hypot(half, us * error) for half in (below, above))
        overlaps.append(getattr(row, low) <= us + above and us - below <= getattr(row, high))
    return 100 * np.abs(np.array(ratios) - 1), float(100 * np.mean(overlaps))


def agreement(
    first: Lut, second: Lut, name: str, prefix: str, most_percent: float | None, least_overlap_percent: float | None
) -> list[Figure]:
    """Return how far two tables of one device agree at one speed, with goals, and by how much their speeds differed."""
    moved, speed = at_one_speed(first, second)
    difference, overlapping = differences(first, moved, prefix, speed)
    as_it_is, _ = differences(first, second, prefix)
    return [
        Figure(f"{name}_median_difference", float(np.median(difference)), "%", most_percent),
        Figure(f"{name}_p95_difference", float(np.percentile(difference, 95)), "%"),
        Figure(f"{name}_intervals_overlap", overlapping, "%", least_overlap_percent, "at_least"),
        Figure(f"{name}_median_difference_as_measured", float(np.median(as_it_is)), "%"),
        Figure(f"{name}_speed_factor", speed.ratio if speed else float("nan"), ""),
        Figure(f"{name}_speed_factor_of_small", (speed and speed.small_ratio) or float("nan"), ""),
    ]
