"""What many devices at once cost the host: recordings of this machine, replayed side by side in their own time.

usage: python benchmarks/many_devices.py [--quick]

This machine is measured once; its journal becomes 1 device and then 32, each measured for the whole run of a table:
80 visits to everything, with the networks that calibrate it. A recorded device has no cable and no process of its
own, so that what is left is what the host does for each: asking, parsing, the journal, intervals and the table. It
answers as fast as this machine does, several times faster than a phone, so that it asks more of the host than one.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from _report import Figure, peak_mb, report

from fblut.reading import read_lut

SPACE = "fbnet"
DEVICES = 32


def options_of(quick: bool) -> list[str]:
    """Return the options of the measurement, the same for the recording and for its replays."""
    rounds = "2" if quick else "80"
    return ["--space", SPACE, "--rounds", rounds, "--calibrate", "8" if quick else "50", "--max-time", "60"]


def record(folder: Path, quick: bool) -> Path:
    """Measure this machine and return the journal."""
    table = folder / "recorded.csv"
    subprocess.run([*command(), *options_of(quick), "-o", str(table)], check=True, stdout=subprocess.DEVNULL)
    return table.with_suffix(".journal.jsonl")


def command() -> list[str]:
    return [sys.executable, "-m", "fbprof", "measure"]


def replay(journal: Path, folder: Path, devices: int, quick: bool) -> dict[str, float]:
    """Measure so many replays of a journal at once; return what the host's process took."""
    folder.mkdir()
    argv = command()
    for number in range(devices):
        recording = folder / f"device{number}.recording.jsonl"
        os.link(journal, recording)
        profile = folder / f"device{number}.toml"
        address = f'[address]\njournal = "{recording}"\nspeed = 1\n'
        profile.write_text(f'description = "a recording"\ntransport = "replay"\n{address}')
        argv += ["--device", str(profile)]
    start = time.monotonic()
    process = subprocess.Popen([*argv, *options_of(quick), "-o", str(folder)], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    wall_s = time.monotonic() - start
    if status:
        raise SystemExit(f"fbprof measure ended with {os.waitstatus_to_exitcode(status)}")
    tables = [read_lut(path) for path in folder.glob("device*.csv")]
    assert len(tables) == devices
    assert all(row.latency_us for table in tables for row in table.rows.values())
    visits = sum(
        line.startswith('{"record":"visit"') for path in folder.glob("*.journal.jsonl") for line in path.open()
    )
    return {
        "wall_s": wall_s,
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "peak_mb": peak_mb(usage),
        "visits": visits,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="8 devices and 2 rounds")
    quick = parser.parse_args().quick
    devices = 8 if quick else DEVICES
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        journal = record(folder, quick)
        one = replay(journal, folder / "one", 1, quick)
        many = replay(journal, folder / "many", devices, quick)
    start_s = one["wall_s"]
    figures = [
        Figure("host_cpu", many["cpu_s"] / many["wall_s"], "cores", goal=1.0),
        Figure("memory_per_device", (many["peak_mb"] - one["peak_mb"]) / (devices - 1), "MB", goal=40.0),
        Figure("cpu_per_visit", 1e6 * (many["cpu_s"] - one["cpu_s"]) / (many["visits"] - one["visits"]), "µs"),
        Figure("visits_per_second", many["visits"] / many["wall_s"], "1/s"),
        Figure("longer_than_one_device", 100 * (many["wall_s"] / start_s - 1), "%"),
    ]
    report("many_devices", figures, quick=quick, devices=devices, space=SPACE, one=one, many=many)


if __name__ == "__main__":
    main()
