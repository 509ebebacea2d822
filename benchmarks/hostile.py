"""Whether files of others can hurt: mutations of every kind of file that is read, at every command that takes one.

usage: python benchmarks/hostile.py [--quick] [--inputs N] [--seed N] [--cases FOLDER]

Every input is given to a command in a process of its own, forked from one that has imported everything. Counted are
tracebacks, runs of over ten seconds of processor time or a minute in all, those that take over 1 GB more than before,
and those that print a control character. What failed is told on stderr. --cases are further files.
"""

import argparse
import contextlib
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path

from _hostile_files import SPECIAL, Kind, kinds, put
from _report import Figure, report

LIMIT_CPU_S = 10
LIMIT_S = 60.0
"""For one that waits. Other work on the machine makes those longer that compute."""
LIMIT_MB = 1000.0
SPARE_BYTES = 6 << 30
"""Of address space for each run: what takes more is ended before it takes the machine."""
TRACEBACK = 70
"""Exit code of a run that ended with a traceback; no command ends with it."""


@dataclass
class Found:
    """What went wrong, by kind of fault: the command, and how the file came about."""

    faults: dict[str, list[str]] = field(
        default_factory=lambda: {"traceback": [], "hang": [], "memory": [], "escape": []}
    )
    codes: dict[int, int] = field(default_factory=dict)

    def add(self, what: str, told: str, detail: str = "") -> None:
        """Note a fault, and tell it on stderr."""
        self.faults[what].append(told)
        print(f"{what}: {told}\n{detail}", file=sys.stderr)


def in_child(line: str, output: Path) -> None:
    """Run a command, print into `output`, and end the process."""
    from fbbase.commandline import run
    from fbprof.cli import fbprof
    from fbsearch.cli import fbsearch

    code = TRACEBACK
    try:
        with output.open("w") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        resource.setrlimit(resource.RLIMIT_CPU, (LIMIT_CPU_S, LIMIT_CPU_S + 2))
        with contextlib.suppress(ValueError, OSError):
            size = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
            resource.setrlimit(resource.RLIMIT_AS, (size + SPARE_BYTES, size + SPARE_BYTES))
        tool, *arguments = line.split()
        code = run(fbprof if tool == "fbprof" else fbsearch, arguments)
        sys.stdout.flush()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def try_one(line: str, told: str, found: Found) -> None:
    """Run one command in a process of its own, and note what is wrong."""
    sys.stdout.flush()
    output = Path("said.txt")
    before_mb = resident_mb()
    start = time.monotonic()
    child = os.fork()
    if child == 0:
        in_child(line, output)
    while True:
        ended, status, usage = os.wait4(child, os.WNOHANG)
        if ended:
            break
        if time.monotonic() - start > LIMIT_S:
            os.kill(child, 9)
            os.wait4(child, 0)
            found.add("hang", told)
            return
        time.sleep(0.01)
    said = output.read_text(errors="backslashreplace") if output.exists() else ""
    code = os.waitstatus_to_exitcode(status)
    found.codes[code] = found.codes.get(code, 0) + 1
    if code == -signal.SIGXCPU:
        found.add("hang", told)
    elif code == TRACEBACK or code < 0 or "Traceback (most recent" in said:
        found.add("traceback", f"{told} (exit code {code})", said[-1500:])
    if usage.ru_maxrss / 1e3 - before_mb > LIMIT_MB:
        found.add("memory", f"{told}: {usage.ru_maxrss / 1e3 - before_mb:.0f} MB")
    if any((ord(each) < 32 and each not in "\n\t") or 126 < ord(each) < 160 for each in said):
        found.add("escape", told, repr(said[-300:]))


def resident_mb() -> float:
    """Return what this process has in memory, which its children begin with."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def try_file(kind: Kind, way: str, number: int, seed: int, found: Found, every: bool) -> int:
    """Make one hostile file and try it at a command, or at every one that reads it; return how many runs that were."""
    rng = random.Random(f"{seed}/{kind.name}/{way}/{number}")
    place = Path(kind.name)
    kept = place.read_bytes() if place.exists() else None
    commands = kind.commands if every else [rng.choice(kind.commands)]
    for line in commands:
        if place.exists() or place.is_symlink():
            place.unlink()
        put(place, kind, way, random.Random(f"{seed}/{kind.name}/{way}/{number}"))
        if kind.name == "j.csv" and place.is_file():  # a journal beside a table
            place.replace("j.journal.jsonl")
            shutil.copy("table.csv", "j.csv")
        try_one(line.replace("FILE", kind.name), f"{line.replace('FILE', kind.name)}: {way} {number}", found)
        shutil.rmtree(place) if place.is_dir() else place.unlink(missing_ok=True)
        Path("j.journal.jsonl").unlink(missing_ok=True)
        if kept is not None:
            place.write_bytes(kept)
    return len(commands)


def try_cases(folder: Path, every: list[Kind], found: Found) -> int:
    """Try files that others made, each at a command for every kind that ends as it does, or that ends as none."""
    runs = 0
    for case in sorted(path for path in folder.rglob("*") if not path.is_dir() and path.suffix != ".py"):
        for kind in every:
            if "/" in kind.name or kind.name == "fbprof.toml" or case.suffix not in ("", Path(kind.name).suffix):
                continue
            place = Path(f"case-{runs}{Path(kind.name).suffix}")
            place.symlink_to(case.resolve())
            line = random.Random(f"{case.name}/{kind.name}").choice(kind.commands).replace("FILE", str(place))
            try_one(line, f"{line}: {case.name}", found)
            place.unlink()
            runs += 1
    return runs


def load_everything() -> None:
    """Import what commands import, once for all children; its threads would not live in them."""
    import matplotlib.figure
    import onnxruntime
    import plotly
    import sklearn.linear_model
    import tensorboard.summary.writer.record_writer
    import torch

    from fbexport.runtimes import prepare_process

    prepare_process()
    torch.set_num_threads(1)
    _ = matplotlib, onnxruntime, plotly, sklearn, tensorboard


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="60 inputs in place of 600")
    parser.add_argument("--inputs", type=int, help="how many")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cases", type=Path, help="folder of further files")
    options = parser.parse_args()
    wanted = options.inputs or (60 if options.quick else 600)
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    cases = options.cases.resolve() if options.cases else None
    found, runs, inputs = Found(), 0, 0
    with tempfile.TemporaryDirectory() as folder:
        load_everything()
        stdout, kept = os.dup(1), sys.stdout
        os.dup2(2, 1)  # what preparing prints is no result
        every = kinds(Path(folder))
        sys.stdout.flush()
        os.dup2(stdout, 1)
        sys.stdout = kept
        for kind in every:
            for way in SPECIAL if not options.quick else SPECIAL[:2]:
                runs += try_file(kind, way, 0, options.seed, found, every=not options.quick)
                inputs += 1
        number = 0
        while inputs < wanted:
            runs += try_file(every[number % len(every)], "mutated", number, options.seed, found, every=False)
            number += 1
            inputs += 1
        if cases is not None:
            runs += try_cases(cases, every, found)
        os.chdir("/")
    figures = [
        Figure("tracebacks", len(found.faults["traceback"]), "runs", 0),
        Figure("hangs_over_10_s", len(found.faults["hang"]), "runs", 0),
        Figure("memory_over_1_gb", len(found.faults["memory"]), "runs", 0),
        Figure("escapes_printed", len(found.faults["escape"]), "runs", 0),
        Figure("inputs", inputs, "files"),
    ]
    codes = {str(code): count for code, count in sorted(found.codes.items())}
    report("hostile", figures, quick=options.quick, seed=options.seed, runs=runs, exit_codes=codes, faults=found.faults)


if __name__ == "__main__":
    main()
