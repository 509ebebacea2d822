"""Samples: from a journal's raw visits to latencies without preempted runs and without the device's drift."""

import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fbagents.agent.protocol import Visit
from fbprof.estimate.drift import HALF_WINDOWS, Drift, estimate_operators
from fbprof.journal.journal import JournalContent

PREEMPTED_NS = 20_000
PREEMPTED_SHARE = 0.005
"""Long runs meet a few interrupts of the system's own, which are theirs to bear."""
DRIFT_VISITS_PER_SUBJECT = 4
"""With fewer visits a drift cannot be separated from the subjects themselves."""


@dataclass(frozen=True, slots=True)
class Samples:
    """What was measured, by subject's key: `visits_us[key]` are the visits, each a list of samples in microseconds.

    `loads[key]` says in which load of its model each of them was made. `preempted` counts the samples left out,
    `drift` is what was taken out, None where nothing was.
    """

    visits_us: dict[str, list[list[float]]]
    loads: dict[str, list[int]]
    preempted: Counter[str]
    drift: Drift | None

    def medians_us(self, key: str) -> list[float]:
        """Return the median of each visit: what varies independently, for one visit's samples share their moment."""
        return [statistics.median(visit) for visit in self.visits_us[key]]

    def medians_by_load_us(self, key: str) -> list[list[float]]:
        """Return the medians of the visits, by load of the model."""
        by_load: dict[int, list[float]] = defaultdict(list)
        for load, median in zip(self.loads[key], self.medians_us(key), strict=True):
            by_load[load].append(median)
        return list(by_load.values())


def usable_samples(
    content: JournalContent, correct_drift: bool = True, half_windows: Sequence[int] = HALF_WINDOWS
) -> Samples:
    """Return a journal's samples; subjects and the device's drift are estimated together (fbprof/estimate/drift.py)."""
    dropped = int(content.start.identity["dropped"])
    keys: list[str] = []
    samples_us: list[list[float]] = []
    loads: dict[str, list[int]] = defaultdict(list)
    preempted: Counter[str] = Counter()
    for record, load in zip(content.visits, content.load_numbers, strict=True):
        kept, lost = usable_samples_us(record.visit, dropped)
        preempted[record.key] += lost
        if kept:
            keys.append(record.key)
            samples_us.append(kept)
            loads[record.key].append(load)
    drift = _drift(keys, samples_us, half_windows) if correct_drift else None
    visits_us: dict[str, list[list[float]]] = defaultdict(list)
    for number, (key, kept) in enumerate(zip(keys, samples_us, strict=True)):
        factor = math.exp(drift.log_factor[number]) if drift else 1.0
        visits_us[key].append([sample / factor for sample in kept])
    return Samples(dict(visits_us), dict(loads), preempted, drift)


def usable_samples_us(visit: Visit, dropped: int) -> tuple[list[float], int]:
    """Return a visit's counted samples in microseconds, and how many were left out as preempted.

    A single thread that was on a core all the time has the same thread-CPU time as wall time. Where wall time exceeds
    it by more than PREEMPTED_NS and PREEMPTED_SHARE, other work ran in between, and the sample says nothing.
    """
    wall_ns = visit.wall_ns[dropped:]
    if visit.cpu_ns is None:
        return [wall / 1e3 for wall in wall_ns], 0
    pairs = zip(wall_ns, visit.cpu_ns[dropped:], strict=True)
    kept = [wall / 1e3 for wall, cpu in pairs if wall - cpu <= PREEMPTED_NS + PREEMPTED_SHARE * wall]
    return kept, len(wall_ns) - len(kept)


def _drift(keys: Sequence[str], samples_us: Sequence[Sequence[float]], half_windows: Sequence[int]) -> Drift | None:
    """Return the drift of a run, None where there are too few visits to tell it from noise."""
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    if len(numbers) < 2 or len(keys) < DRIFT_VISITS_PER_SUBJECT * len(numbers):
        return None
    subjects = np.array([numbers[key] for key in keys], dtype=np.intp)
    log_latency = np.log([statistics.median(kept) for kept in samples_us])
    return estimate_operators(subjects, log_latency, half_windows)[1]
