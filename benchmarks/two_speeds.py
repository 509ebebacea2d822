"""Whether two tables of one device agree that were made while it had another speed each.

usage: python benchmarks/two_speeds.py [--quick] [--space NAME] [--tables FOLDER]

Replayed: a run is recorded on this machine, twice as long as a table takes; one table is made of every other of its
visits, the other one of the rest on a machine that is slower by 30 % for most of the time. Real: this machine, quiet,
and with one core kept busy. The tables are brought to one speed by the reference workload, as `fbprof compare` does it.
"""

import argparse
import json
import tempfile
from collections import Counter
from pathlib import Path

from _report import Figure, report
from _tables import agreement, hog, measure

SLOWER = 1.3
SLOW_OF_TEN = {"fast": 1, "slow": 9}
"""Of ten stretches of a run, those at the lower speed."""
STRETCH_VISITS = 100
DIFFERENCE_PERCENT, OVERLAP_PERCENT = 1.5, 94.0


def in_state(recording: Path, name: str, half: int) -> Path:
    """Write a recording of every other visit to each model, slowed down as the state says, and its device's profile."""
    seen: Counter[str] = Counter()
    lines, count = [], 0
    for line in recording.read_text().splitlines():
        record = json.loads(line)
        if record["record"] == "visit" and not record["warm_up"]:
            seen[record["key"]] += 1
            if seen[record["key"]] % 2 != half:
                continue
            count += 1
            is_slow = count // STRETCH_VISITS % 10 < SLOW_OF_TEN[name]
            for clock in ("wall_ns", "cpu_ns"):
                times = record["visit"][clock]
                record["visit"][clock] = times and [round(t * (SLOWER if is_slow else 1)) for t in times]
        lines.append(json.dumps(record, separators=(",", ":")))
    folder = recording.parent / name  # one device has one name, whatever its speed
    folder.mkdir(exist_ok=True)
    journal, profile = folder / "recorded.jsonl", folder / "replayed.toml"
    journal.write_text("\n".join(lines) + "\n")
    profile.write_text(f'description = "two speeds"\ntransport = "replay"\naddress.journal = "{journal}"\n')
    return profile


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer visits, and no networks")
    parser.add_argument("--space", default="fbnet-tiny")
    parser.add_argument("--tables", type=Path, help="keep the tables and their raw samples here")
    options = parser.parse_args()
    arguments = ["--space", options.space]
    arguments += ["--calibrate", "0", "--rounds", "80"] if options.quick else []
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.tables or Path(temporary)
        quiet = measure(folder / "quiet.csv", arguments)
        with hog(busy_s=3600, idle_s=0):
            loaded = measure(folder / "loaded.csv", arguments)
        longer = ["--rounds", "160"] if options.quick else ["--ci", "0.2"]  # narrower than it gets: to the last round
        measure(folder / "recorded.csv", [*arguments, *longer])
        recording = folder / "recorded.journal.jsonl"
        replayed = []
        for half, name in enumerate(SLOW_OF_TEN):
            profile = in_state(recording, name, half)
            replayed.append(measure(folder / f"{name}.csv", [*arguments, "--device", str(profile)]))
    figures: list[Figure] = []
    for name, (first, second) in {"replayed": replayed, "beside_a_hog": (quiet, loaded)}.items():
        figures += agreement(first, second, name, "isolated", DIFFERENCE_PERCENT, OVERLAP_PERCENT)
        if not options.quick:
            figures += agreement(first, second, f"{name}_in_network", "in_network", None, None)
    verdicts = [lut.metadata.verdict for lut in (*replayed, quiet, loaded)]
    report("two_speeds", figures, quick=options.quick, space=options.space, verdicts=verdicts)


if __name__ == "__main__":
    main()
