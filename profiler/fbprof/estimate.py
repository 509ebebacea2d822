"""Estimate: from raw samples to a table: drift taken out, median, spread, and a distribution-free 95 % interval."""

import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from fbagents.protocol import Visit
from fblut.table import Lut, Metadata, Row
from fbprof.drift import Drift, estimate_operators
from fbprof.journal import JournalContent, OperatorVisit
from fbspace.opspec import OpSpec

PREEMPTED_NS = 20_000
OUTLIER_DEVIATIONS = 3.5
OUTLIER_VALUES = 12
DRIFT_VISITS_PER_OPERATOR = 4
"""With fewer visits a drift cannot be told from the operators themselves."""


def estimate(content: JournalContent, operators: Iterable[OpSpec], correct_drift: bool = True) -> Lut:
    """Return the table of a journal, with a row for each operator, measured or failed.

    Operators and the device's drift are estimated together (fbprof/drift.py); a table without the correction is for
    comparison.
    """
    dropped = int(content.start.identity["dropped"])
    keys: list[str] = []
    samples_us: list[list[float]] = []
    preempted: Counter[str] = Counter()
    for record in content.visits:
        if record.round >= 0:
            kept, lost = usable_samples_us(record.visit, dropped)
            preempted[record.key] += lost
            if kept:
                keys.append(record.key)
                samples_us.append(kept)
    drift = _drift(keys, samples_us) if correct_drift else None
    visits: dict[str, list[list[float]]] = defaultdict(list)
    for number, (key, kept) in enumerate(zip(keys, samples_us, strict=True)):
        factor = math.exp(drift.log_factor[number]) if drift else 1.0
        visits[key].append([sample / factor for sample in kept])
    rows = {}
    for spec in operators:
        key = spec.key()
        if key in content.failed:
            rows[key] = Row(spec, None, status="failed", notes=content.failed[key])
        elif key in visits:
            rows[key] = _row(spec, visits[key], preempted[key])
        elif key in preempted:
            reason = f"all {preempted[key]} samples were preempted by other work: close other programs, measure again"
            rows[key] = Row(spec, None, status="failed", notes=reason)
    return Lut(_metadata(content, drift), rows)


def _drift(keys: Sequence[str], samples_us: Sequence[Sequence[float]]) -> Drift | None:
    """Return the drift of a run, None where there are too few visits to tell it from noise."""
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    if len(numbers) < 2 or len(keys) < DRIFT_VISITS_PER_OPERATOR * len(numbers):
        return None
    operators = np.array([numbers[key] for key in keys], dtype=np.intp)
    return estimate_operators(operators, np.log([statistics.median(kept) for kept in samples_us]))[1]


def usable_samples_us(visit: Visit, dropped: int) -> tuple[list[float], int]:
    """Return a visit's counted samples in microseconds, and how many were left out as preempted.

    A single thread that was on a core all the time has the same thread-CPU time as wall time. Where wall time exceeds
    it by more than PREEMPTED_NS, other work ran in between, and the sample says nothing about the operator.
    """
    wall_ns = visit.wall_ns[dropped:]
    if visit.cpu_ns is None:
        return [wall / 1e3 for wall in wall_ns], 0
    pairs = zip(wall_ns, visit.cpu_ns[dropped:], strict=True)
    kept = [wall / 1e3 for wall, cpu in pairs if wall - cpu <= PREEMPTED_NS]
    return kept, len(wall_ns) - len(kept)


def _row(spec: OpSpec, visits: Sequence[Sequence[float]], preempted: int) -> Row:
    """Estimate one operator from its visits, each a list of samples in microseconds.

    Samples of one visit share what the machine did at that moment, so the visits are what varies independently: the
    latency is the median of the visits' medians, and the interval is theirs.
    """
    samples = [sample for visit in visits for sample in visit]
    medians = without_outliers([statistics.median(visit) for visit in visits])
    interval = median_interval(medians)
    return Row(
        spec=spec,
        latency_us=statistics.median(medians),
        ci_low_us=interval[0] if interval else None,
        ci_high_us=interval[1] if interval else None,
        spread_us=interquartile_range(samples),
        samples=len(samples),
        notes=f"{preempted} preempted samples left out" if preempted else "",
    )


def without_outliers(values: Sequence[float]) -> list[float]:
    """Return the values within OUTLIER_DEVIATIONS scaled median absolute deviations of their median.

    Disturbances only ever make an operator slower: left in, a few percent of them would pull the median up by more
    than a narrow interval is wide. Fewer than OUTLIER_VALUES are too few to judge by, and all stay.
    """
    if len(values) < OUTLIER_VALUES:
        return [*values]
    middle = statistics.median(values)
    deviation = 1.4826 * statistics.median(abs(value - middle) for value in values)
    return (
        [value for value in values if abs(value - middle) <= OUTLIER_DEVIATIONS * deviation] if deviation else [*values]
    )


def median_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float] | None:
    """Return the order statistics that enclose the true median with at least this confidence, None if too few values.

    The number of values below the median is binomial (n, 1/2): the widest k with 2·P(X < k) ≤ 1 − confidence gives
    the k-th smallest and k-th largest value (Conover, Practical Nonparametric Statistics, 3.2).
    """
    n = len(values)
    tail, k = 0.0, 0
    while k < n / 2 and tail + math.comb(n, k) / 2**n <= (1 - confidence) / 2:
        tail += math.comb(n, k) / 2**n
        k += 1
    if k == 0:
        return None
    ordered = sorted(values)
    return ordered[k - 1], ordered[n - k]


def interquartile_range(values: Sequence[float]) -> float:
    """Return the distance between the quartiles, 0 for a single value."""
    if len(values) < 2:
        return 0.0
    quartiles = statistics.quantiles(values, n=4, method="inclusive")
    return quartiles[2] - quartiles[0]


def _metadata(content: JournalContent, drift: Drift | None) -> Metadata:
    identity = content.start.identity
    hello = content.sessions[0].hello
    cores = identity["cores"]
    return Metadata(
        space=identity["space"],
        device=identity["device"],
        runtime=identity["runtime"],
        runtime_version=hello.runtimes.get(identity["runtime"], "unknown"),
        precision=identity["precision"],
        threads=identity["threads"],
        cores=",".join(map(str, cores)) if cores is not None else "any",
        soc=hello.soc,
        system=hello.system,
        timing=content.start.timing,
        seed=identity["seed"],
        rounds=1 + max((visit.round for visit in content.visits), default=-1),
        agent=hello.agent,
        tool_version=content.start.tool_version,
        measured_at=content.start.started_at,
        conditions=_conditions(content.visits, len(content.sessions)),
        drift_window_visits=2 * drift.half_window if drift else 0,
        drift_range_percent=round(drift.range_percent, 2) if drift else None,
    )


def _conditions(visits: Sequence[OperatorVisit], sessions: int) -> str:
    frequencies = [visit.visit.freq_khz for visit in visits if visit.visit.freq_khz is not None]
    clock = (
        f"clock {min(frequencies) / 1e6:.2f} to {max(frequencies) / 1e6:.2f} GHz"
        if frequencies
        else "clock not readable"
    )
    return f"{clock}, {sessions} session{'s' * (sessions != 1)}"
