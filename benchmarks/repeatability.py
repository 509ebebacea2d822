"""Whether two independent runs give the same table, the second with other work beside it half of the time.

usage: python benchmarks/repeatability.py [--quick] [--runtime NAME] [--space NAME] [--tables FOLDER]

The second table is brought to the speed of the first by the reference workload, as `fbprof compare` does it. Goals are
on operators as they were timed; how they change within networks, after calibration, is printed beside them.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
from _report import Figure, report
from _tables import differences, hog, measure

from fblut.speed import at_one_speed

HOG_PERIOD_S = 10.0


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
        with hog(HOG_PERIOD_S / 2, HOG_PERIOD_S / 2):
            disturbed = measure(folder / "disturbed.csv", arguments)
    moved, speed = at_one_speed(quiet, disturbed)
    figures = [Figure("speed_factor", speed.ratio if speed else float("nan"), "")]
    for prefix, goals in (("isolated", (1.0, 4.0, 94.0)), ("in_network", (None, None, None))):
        difference, overlap = differences(quiet, moved, prefix, speed)
        figures += [
            Figure(f"{prefix}_median_difference", float(np.median(difference)), "%", goals[0]),
            Figure(f"{prefix}_p95_difference", float(np.percentile(difference, 95)), "%", goals[1]),
            Figure(f"{prefix}_intervals_overlap", overlap, "%", goals[2], "at_least"),
        ]
    report("repeatability", figures, quick=options.quick, verdicts=[quiet.metadata.verdict, disturbed.metadata.verdict])


if __name__ == "__main__":
    main()
