"""How long the tools take to answer --help, as whole processes.

usage: python benchmarks/help_speed.py [--quick]
"""

import argparse
import statistics
import subprocess
import sys
import time

from _report import Figure, report


def help_s(tool: str, runs: int) -> float:
    """Return the median wall time of `TOOL --help` after one warm-up."""
    times = []
    for _ in range(runs + 1):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", tool, "--help"], check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="3 runs instead of 15")
    runs = 3 if parser.parse_args().quick else 15
    figures = [Figure(f"{tool}_help_median", help_s(tool, runs), "s", goal=0.4) for tool in ("fbprof", "fbsearch")]
    report("help_speed", figures, runs=runs)


if __name__ == "__main__":
    main()
