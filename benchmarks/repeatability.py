"""Whether two independent runs give the same table, the second with other work beside it half of the time.

usage: python benchmarks/repeatability.py [--quick] [--runtime NAME] [--space NAME] [--tables FOLDER]

Goals are on operators as they were timed; how they change within networks, after calibration, is printed beside them.
"""

import argparse
import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from _report import Figure, report

from fblut.reading import read_lut
from fblut.table import Lut

HOG_PERIOD_S = 10.0
HOG = f"""
import time
while True:
    start = time.monotonic()
    while time.monotonic() - start < {HOG_PERIOD_S / 2}:
        pass
    time.sleep({HOG_PERIOD_S / 2})
"""


def measure(table: Path, arguments: list[str]) -> Lut:
    """Run `fbprof measure` in a process of its own and return the table."""
    argv = [sys.executable, "-m", "fbprof", "measure", "--fresh", *arguments, "-o", str(table)]
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
    return read_lut(table)


@contextlib.contextmanager
def hog() -> Iterator[None]:
    """Keep one core busy half of the time."""
    process = subprocess.Popen([sys.executable, "-c", HOG])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def differences(first: Lut, second: Lut, prefix: str) -> tuple[np.ndarray, float]:
    """Return |second/first − 1| of every entry in percent, and the share of entries whose intervals overlap."""
    latency, low, high = (
        ("isolated_us", "isolated_low_us", "isolated_high_us")
        if prefix == "isolated"
        else ("latency_us", "ci_low_us", "ci_high_us")
    )
    ratios, overlaps = [], []
    for key, row in first.rows.items():
        other = second.rows[key]
        ratios.append(getattr(other, latency) / getattr(row, latency))
        overlaps.append(getattr(row, low) <= getattr(other, high) and getattr(other, low) <= getattr(row, high))
    return 100 * np.abs(np.array(ratios) - 1), float(100 * np.mean(overlaps))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="the tiny space and few networks")
    parser.add_argument("--runtime", default="litert")
    parser.add_argument("--space", default="fbnet")
    parser.add_argument("--tables", type=Path, help="keep the tables and their raw samples here")
    options = parser.parse_args()
    arguments = ["--runtime", options.runtime, "--space", "fbnet-tiny" if options.quick else options.space]
    arguments += ["--calibrate", "10"] if options.quick else []
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.tables or Path(temporary)
        quiet = measure(folder / "quiet.csv", arguments)
        with hog():
            disturbed = measure(folder / "disturbed.csv", arguments)
    figures = []
    for prefix, goals in (("isolated", (1.0, 4.0, 94.0)), ("in_network", (None, None, None))):
        difference, overlap = differences(quiet, disturbed, prefix)
        figures += [
            Figure(f"{prefix}_median_difference", float(np.median(difference)), "%", goals[0]),
            Figure(f"{prefix}_p95_difference", float(np.percentile(difference, 95)), "%", goals[1]),
            Figure(f"{prefix}_intervals_overlap", overlap, "%", goals[2], "at_least"),
        ]
    report("repeatability", figures, quick=options.quick, verdicts=[quiet.metadata.verdict, disturbed.metadata.verdict])


if __name__ == "__main__":
    main()
