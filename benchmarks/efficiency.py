"""How much of the wall clock of a full run is spent inside timed or warm-up inference.

usage: python benchmarks/efficiency.py [--quick] [--runtime NAME] [--space NAME]

The wall clock is that of the whole command, from the start of Python to its end: exporting, loading, estimating and
everything else counts as lost.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from _report import Figure, report

from fbprof.journal.journal import journal_path


def inference_s(journal: Path) -> float:
    """Return the seconds of all runs of all visits, warm-up included."""
    records = map(json.loads, journal.read_text().splitlines())
    return sum(sum(record["visit"]["wall_ns"]) for record in records if record["record"] == "visit") / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few rounds: the start weighs more, and no goal is met")
    parser.add_argument("--runtime", default="litert")
    parser.add_argument("--space", default="fbnet")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "t.csv"
        argv = [sys.executable, "-m", "fbprof", "measure", "--runtime", options.runtime, "--space", options.space]
        argv += ["--rounds", "3", "--calibrate", "8"] if options.quick else []
        start = time.monotonic()
        subprocess.run([*argv, "-o", str(table)], check=True, stdout=subprocess.DEVNULL)
        wall_s = time.monotonic() - start
        timed_s = inference_s(journal_path(table))
    figures = [
        Figure("inference_share", 100 * timed_s / wall_s, "%", 85.0, "at_least"),
        Figure("wall_clock", wall_s, "s"),
        Figure("inference", timed_s, "s"),
    ]
    report("efficiency", figures, quick=options.quick)


if __name__ == "__main__":
    main()
