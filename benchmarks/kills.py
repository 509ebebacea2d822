"""Whether anything that was measured or trained is lost when processes are killed.

usage: python benchmarks/kills.py [--quick] [--measure N] [--search N] [--seed N]

A measurement, a search and a training run again and again by the same command, until they have been hit so many times
at random moments: SIGKILL, SIGHUP, SIGTERM, SIGINT twice, or SIGSTOP and SIGCONT, of the host's process, its agent or
both. Tables are killed while they are written, too. After each blow the journal must hold all that it held before; in
the end the table must be that of its journal, and θ, weights and networks must be those of runs that nobody disturbed.
"""

import argparse
import filecmp
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from _report import Figure, report

from fbprof.journal.journal import journal_path, read_journal

SPACE = """
description = "two layers of three candidates"
input = { channels = 3, size = 8 }
classes = 10
head_channels = [16]
stem = [{ kind = "conv", channels = 8, kernel = 3, stride = 1 }]
stages = [{ channels = 8, repeats = 1, stride = 1 }, { channels = 12, repeats = 1, stride = 2 }]
[candidates]
k3_e1 = { kind = "ir", kernel = 3, expansion = 1 }
k5_e3 = { kind = "ir", kernel = 5, expansion = 3 }
skip = { kind = "skip" }
"""
BLOWS: dict[str, tuple[signal.Signals, ...]] = {
    "KILL": (signal.SIGKILL,),
    "HUP": (signal.SIGHUP,),
    "TERM": (signal.SIGTERM,),
    "INT twice": (signal.SIGINT, signal.SIGINT),
    "STOP and CONT": (signal.SIGSTOP, signal.SIGCONT),
}
MEASURED_PER_BLOW = 30
"""Visits that a measurement gains between two blows, so that each finds it at work."""


class Running:
    """A command that is started again whenever it has ended, and hit until it has had enough."""

    def __init__(self, command: list[str], rng: random.Random) -> None:
        self.command, self._rng = command, rng
        self.hits, self.starts, self.codes = 0, 0, set[int]()
        self._process: subprocess.Popen[bytes] | None = None

    def alive(self) -> subprocess.Popen[bytes]:
        """Return the process, a new one where the last has ended."""
        if self._process is None or self._process.poll() is not None:
            self.starts += 1
            if self._process is not None:
                self.codes.add(self._process.returncode)
            null = subprocess.DEVNULL
            self._process = subprocess.Popen([sys.executable, *self.command], stdout=null, stderr=null)
        return self._process

    def hit(self) -> None:
        """Send a random blow to the process, its children, or both."""
        process = self.alive()
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        agents = [int(pid) for pid in children.read_text().split()] if children.exists() else []
        targets = self._rng.choice([[process.pid], agents or [process.pid], [process.pid, *agents]])
        for number in BLOWS[self._rng.choice([*BLOWS])]:
            for pid in targets:
                try:
                    signal.pidfd_send_signal(handle := os.pidfd_open(pid), number)
                    os.close(handle)
                except ProcessLookupError:
                    pass
            time.sleep(self._rng.uniform(0, 0.3))
        self.hits += 1

    def finish(self, command: list[str]) -> None:
        """End what runs, and carry out a command to its end."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL)


def wait_until(condition: Callable[[], bool], running: Running, timeout_s: float = 60) -> None:
    """Wait for a condition while a command runs, and again where it was ended."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(
                f"nothing happened for {timeout_s:.0f} s: {' '.join(running.command)}, ended {running.codes}"
            )
        running.alive()
        time.sleep(0.01)


def measure(folder: Path, blows: int, rng: random.Random) -> tuple[int, bool, Running]:
    """Return the visits lost in a measurement, whether its table is its journal's, and how it ran."""
    table = folder / "killed.csv"
    journal = journal_path(table)
    command = ["-m", "fbprof", "measure", "--space", str(folder / "micro.toml"), "--ci", "0.0001", "-o", str(table)]
    running = Running([*command, "--rounds", "1000000"], rng)
    before: list[bytes] = []
    lost = 0
    while running.hits < blows:
        enough = len(before) + MEASURED_PER_BLOW
        wait_until(lambda enough=enough: len(lines(journal)) >= enough, running)
        before = lines(journal)
        running.hit()
        after = lines(journal)
        lost += sum(a != b for a, b in zip(before, after, strict=False)) + max(len(before) - len(after), 0)
        before = after
    wait_until(lambda: len(lines(journal)) > len(before), running)
    content = read_journal(journal)
    assert content is not None
    rounds = max(content.counts.values()) + 1
    running.finish([*command, "--rounds", str(rounds)])
    after = lines(journal)
    lost += sum(a != b for a, b in zip(before, after, strict=False))
    again = folder / "again.csv"
    subprocess.run(
        [sys.executable, "-m", "fbprof", "estimate", journal, "-o", again], check=True, stdout=subprocess.DEVNULL
    )
    return lost, filecmp.cmp(table, again, shallow=False), running


def write_table(folder: Path, blows: int) -> int:
    """Kill processes while they write a table; return how often it was neither what it was nor what it was to be."""
    table, journal = folder / "written.csv", journal_path(folder / "killed.csv")
    shutil.copy(folder / "killed.csv", table)
    whole = table.read_bytes()
    torn = 0
    for _ in range(blows):
        command = [sys.executable, "-m", "fbprof", "estimate", str(journal), "-o", str(table)]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            while process.poll() is None and not list(folder.glob(".written.csv.*")):
                pass
            process.kill()
        torn += table.read_bytes() != whole
    return torn


def search(folder: Path, name: str, command: list[str], blows: int, rng: random.Random) -> tuple[list[str], Running]:
    """Return the files in which a search or a training that was hit differs from one that was not, and how it ran."""
    outputs = {each: folder / each / name for each in ("killed", "whole")}  # a network bears its folder's name
    subprocess.run([sys.executable, *command, "-o", str(outputs["whole"])], check=True, stdout=subprocess.DEVNULL)
    running = Running([*command, "-o", str(outputs["killed"])], rng)
    metrics = outputs["killed"] / "metrics.jsonl"
    done = len(lines(outputs["whole"] / "metrics.jsonl"))
    for number in range(blows):
        reached = min(done - 1, number * done // blows)
        wait_until(lambda reached=reached: len(lines(metrics)) >= reached, running)
        time.sleep(rng.uniform(0, 0.2))
        running.hit()
    running.finish([*command, "-o", str(outputs["killed"])])
    whole = outputs["whole"].iterdir()
    return [f"{name}/{path.name}" for path in whole if not same(outputs["killed"] / path.name, path)], running


def same(mine: Path, other: Path) -> bool:
    """Whether two files of runs hold the same: tensors to the bit, JSON but for times."""
    if other.suffix in (".pt", ".ckpt"):
        first, second = (flat(torch.load(path, weights_only=True)) for path in (mine, other))
        return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)
    if other.suffix in (".json", ".jsonl"):
        values = ([without_times(json.loads(line)) for line in documents(path)] for path in (mine, other))
        return next(values) == next(values)
    return True


def flat(value: object, where: str = "") -> dict[str, torch.Tensor]:
    """Return the tensors of a nested value by their place."""
    if isinstance(value, torch.Tensor):
        return {where: value}
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    return {place: tensor for key, each in items for place, tensor in flat(each, f"{where}/{key}").items()}


def documents(path: Path) -> list[str]:
    """Return a file's JSON documents: one, or one a line."""
    text = path.read_text()
    return text.splitlines() if path.suffix == ".jsonl" else [text]


def without_times(value: object) -> object:
    """Return a value without what a clock or a place has to do with."""
    if isinstance(value, dict):
        return {
            k: without_times(v)
            for k, v in value.items()
            if not k.endswith(("_s", "_at", "_per_second", "seconds", "wait_share"))
        }
    return [without_times(each) for each in value] if isinstance(value, list) else value


def lines(path: Path) -> list[bytes]:
    """Return a file's whole lines."""
    return path.read_bytes().split(b"\n")[:-1] if path.exists() else []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few blows")
    parser.add_argument("--measure", type=int, default=100, help="blows to a measurement")
    parser.add_argument("--search", type=int, default=50, help="blows to a search and a training together")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    measured, searched = (8, 4) if options.quick else (options.measure, options.search)
    rng = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "micro.toml").write_text(SPACE)
        lost, is_same_table, measuring = measure(folder, measured - measured // 5, rng)
        torn = write_table(folder, measured // 5)
        table = str(folder / "killed.csv")
        common = ["--data", "digits", "--batch", "32", "--limit", "400", "--threads", "1"]
        run = ["-m", "fbsearch", "run", "--lut", table, "--space", str(folder / "micro.toml"), *common]
        found, searching = search(folder, "search", [*run, "--epochs", "40"], searched // 2, rng)
        network = str(folder / "whole" / "search" / "arch.json")
        train = ["-m", "fbsearch", "train", network, *common, "--epochs", "40"]
        trained, training = search(folder, "training", train, searched - searched // 2, rng)
    figures = [
        Figure("samples_lost", lost, "", 0),
        Figure("tables_torn", torn, "", 0),
        Figure("tables_that_are_not_their_journals", int(not is_same_table), "", 0),
        Figure("files_of_the_search_that_differ", len(found), "", 0),
        Figure("files_of_the_training_that_differ", len(trained), "", 0),
        Figure("blows_to_measure", measuring.hits + measured // 5, "", 8 if options.quick else 100, "at_least"),
        Figure("blows_to_search_and_train", searching.hits + training.hits, "", 4 if options.quick else 50, "at_least"),
    ]
    starts = {name: each.starts for name, each in (("measure", measuring), ("run", searching), ("train", training))}
    codes = sorted(measuring.codes | searching.codes | training.codes)
    report(
        "kills",
        figures,
        quick=options.quick,
        seed=options.seed,
        starts=starts,
        exit_codes=codes,
        differ=found + trained,
    )


if __name__ == "__main__":
    main()
