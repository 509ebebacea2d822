"""Samples: from a journal's raw visits to latencies without preempted runs and without the device's drift."""

import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from fbagents.agent.protocol import Visit
from fbprof.estimate.drift import HALF_WINDOWS, Drift, estimate_operators
from fbprof.journal.journal import JournalContent

LONGEST_NS = 3_600_000_000_000
"""No operator and no mobile network takes an hour: a clock that jumped, or an agent that is wrong."""
PREEMPTED_NS = 20_000
PREEMPTED_SHARE = 0.005
"""Long runs meet a few interrupts of the system's own, which are theirs to bear."""
MOSTLY = 0.75
"""Of a model's samples: so many are preempted where it runs longer than other work ever pauses."""
DRIFT_VISITS_PER_SUBJECT = 4
"""With fewer visits a drift cannot be separated from the subjects themselves."""


@dataclass(frozen=True, slots=True)
class Samples:
    """What was measured, by subject's key: `visits_us[key]` are the visits, each a list of samples in microseconds.

    `loads[key]` says in which load of its model each of them was made. `preempted` counts the samples left out because
    other work ran, `implausible` those of no length, shorter than what the agent itself takes, or longer than an hour.
    `drift` is what was taken out, None where nothing was.
    """

    visits_us: dict[str, list[list[float]]]
    loads: dict[str, list[int]]
    preempted: Counter[str]
    implausible: Counter[str]
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
    content: JournalContent,
    correct_drift: bool = True,
    half_windows: Sequence[int] = HALF_WINDOWS,
    by_cpu_time: Collection[str] = (),
) -> Samples:
    """Return a journal's samples; subjects and the device's drift are estimated together (fbprof/estimate/drift.py).

    Of the subjects `by_cpu_time` preempted samples are not left out but count with their thread's CPU time.
    """
    dropped = int(content.start.identity["dropped"])
    overheads_ns = [ns for session in content.sessions if (ns := session.hello.overhead_ns) is not None]
    shortest_ns = min(overheads_ns, default=0)
    keys: list[str] = []
    samples_us: list[list[float]] = []
    loads: dict[str, list[int]] = defaultdict(list)
    preempted: Counter[str] = Counter()
    implausible: Counter[str] = Counter()
    for record, load in zip(content.visits, content.load_numbers, strict=True):
        kept, lost, wrong = usable_samples_us(record.visit, dropped, shortest_ns, record.key in by_cpu_time)
        preempted[record.key] += lost
        implausible[record.key] += wrong
        if kept:
            keys.append(record.key)
            samples_us.append(kept)
            loads[record.key].append(load)
    drift = _drift(keys, samples_us, half_windows) if correct_drift else None
    visits_us: dict[str, list[list[float]]] = defaultdict(list)
    for number, (key, kept) in enumerate(zip(keys, samples_us, strict=True)):
        factor = math.exp(drift.log_factor[number]) if drift else 1.0
        visits_us[key].append([sample / factor for sample in kept])
    return Samples(dict(visits_us), dict(loads), preempted, implausible, drift)


def mostly_preempted(content: JournalContent, keys: Collection[str]) -> set[str]:
    """Return which of some subjects hardly ever ran without other work in between."""
    dropped = int(content.start.identity["dropped"])
    kept, lost = Counter[str](), Counter[str]()
    for record in content.visits:
        if record.key in keys:
            good, preempted, _ = usable_samples_us(record.visit, dropped)
            kept[record.key] += len(good)
            lost[record.key] += preempted
    return {key for key in lost if lost[key] > MOSTLY * (lost[key] + kept[key])}


def usable_samples_us(
    visit: Visit, dropped: int, shortest_ns: int = 0, by_cpu_time: bool = False
) -> tuple[list[float], int, int]:
    """Return a visit's counted samples in microseconds, and how many were left out, as preempted and as implausible.

    A single thread that was on a core all the time has the same thread-CPU time as wall time. Where wall time exceeds
    it by more than PREEMPTED_NS and PREEMPTED_SHARE, other work ran in between, and the sample says nothing. One that
    is not longer than `shortest_ns` is below what the device's clock can tell. `by_cpu_time` a preempted one counts all
    the same, with what the thread itself took.
    """
    wall_ns = visit.wall_ns[dropped:]
    cpu_ns = wall_ns if visit.cpu_ns is None else visit.cpu_ns[dropped:]
    pairs = [(w, c) for w, c in zip(wall_ns, cpu_ns, strict=True) if max(shortest_ns, 0) < w <= LONGEST_NS]
    whole = [wall - cpu <= PREEMPTED_NS + PREEMPTED_SHARE * wall for wall, cpu in pairs]
    kept = [(w if good else c) / 1e3 for (w, c), good in zip(pairs, whole, strict=True) if good or by_cpu_time]
    return kept, whole.count(False), len(wall_ns) - len(pairs)


def _drift(keys: Sequence[str], samples_us: Sequence[Sequence[float]], half_windows: Sequence[int]) -> Drift | None:
    """Return the drift of a run, None where there are too few visits to tell it from noise."""
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    if len(numbers) < 2 or len(keys) < DRIFT_VISITS_PER_SUBJECT * len(numbers):
        return None
    subjects = np.array([numbers[key] for key in keys], dtype=np.intp)
    log_latency = np.log([statistics.median(kept) for kept in samples_us])
    return estimate_operators(subjects, log_latency, half_windows)[1]
