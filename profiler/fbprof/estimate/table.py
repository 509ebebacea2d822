"""Estimate: from raw samples to a table: medians with distribution-free intervals, put into context by networks."""

import itertools
import math
import statistics
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pydantic

from fbagents.agent.protocol import Hello
from fblut.check import half_width_percent
from fblut.interpolate import Interpolation
from fblut.speed import LARGE, SMALL
from fblut.statistics import student_quantile
from fblut.table import LARGEST_PERCENT, NORMAL_95, At, Lut, Metadata, Row
from fbprof.errors import JournalError
from fbprof.estimate.calibrate import MIN_NETWORKS, Calibration, calibrate
from fbprof.estimate.samples import Samples, usable_samples
from fbprof.estimate.speed import speed_error_percent, speed_factor
from fbprof.estimate.verdict import Known, verdict_of
from fbprof.journal.conditions import describe_conditions, describe_delegates
from fbprof.journal.journal import JournalContent
from fbprof.plan.grid import grid_operators
from fbprof.plan.subject import is_network_key, is_operator_key, network_specs, reference
from fbspace.opspec import OpSpec
from fbspace.space import Space

MIN_LOADS = 4
SMALLEST_SHARE = 0.01
"""Of a latency: no interval reaches below; a table knows no time of 0 or less."""
OUTLIER_DEVIATIONS = 3.5
OUTLIER_VALUES = 12
QUICK_HALF_WINDOWS = (8,)
"""While measuring, intervals are looked at with one window; the best one is sought at the end."""


def estimate(
    content: JournalContent,
    space: Space,
    correct_drift: bool = True,
    calibrate_by: Collection[str] | None = None,
    at: At = "mean",
) -> Lut:
    """Return the table of a journal, with a row for each operator of its space that was measured or failed.

    Its times are those `at` one of the run's speeds (`fbprof.estimate.speed`). A table without the correction for
    drift, or calibrated only by the networks of these keys, is for comparison. Raises JournalError where it holds
    networks of another space.
    """
    samples = usable_samples(content, correct_drift)
    metadata = _metadata(content, samples)
    rows: dict[str, Row] = {}
    for spec in grid_operators(space, metadata.grid_points):
        placed = [describe_delegates(content, spec.key()), *content.fallbacks.get(spec.key(), ())]
        row = _row(spec, samples, content.failed, "; ".join(filter(None, placed)))
        if row is not None:
            rows[spec.key()] = row
    networks = network_latencies_us(samples)
    chosen = {key: us for key, us in networks.items() if calibrate_by is None or key in calibrate_by}
    calibration, used = _calibrate(rows, chosen, space, metadata.grid_points is not None)
    if calibration is not None:
        rows = _in_context(rows, calibration)
        network_us = round(calibration.network_us, 3)
        error_percent = round(min(calibration.error_percent, LARGEST_PERCENT), 3)
        update = {"network_us": network_us, "calibration_networks": used, "network_error_percent": error_percent}
        metadata = metadata.model_copy(update=update)
    lut = Lut(metadata, rows)
    verdict, warnings = verdict_of(content, samples, _known(lut))
    metadata = metadata.model_copy(update={"verdict": verdict, "warnings": warnings, "at": at})
    return Lut(metadata, rows).slowed(speed_factor(samples.drift, at))


def half_widths_percent(content: JournalContent) -> dict[str, float]:
    """Return half of the 95 % interval of every subject in percent of its latency, where there are enough visits."""
    samples = usable_samples(content, half_windows=QUICK_HALF_WINDOWS)
    result = {}
    for key in samples.visits_us:
        latency_us, interval = latency_of(samples.medians_by_load_us(key))
        if interval is not None:
            result[key] = 50 * (interval[1] - interval[0]) / latency_us
    return result


def latency_of(loads: Sequence[Sequence[float]]) -> tuple[float, tuple[float, float] | None]:
    """Return a subject's latency and its 95 % interval from the medians of its visits, by load of its model.

    Where a model lies in memory is drawn anew with every load, and may make it several percent faster or slower for as
    long as it stays there. So with MIN_LOADS loads or more, loads are what varies independently: the latency is their
    mean, and the interval Student's. With fewer it is the median of all visits, and the interval the median's.
    """
    if len(loads) >= MIN_LOADS:
        medians = [statistics.median(without_outliers(load)) for load in loads]
        mean = statistics.fmean(medians)
        half = student_quantile(len(loads) - 1, 0.975) * statistics.stdev(medians) / math.sqrt(len(loads))
        return mean, (max(mean - half, SMALLEST_SHARE * mean), mean + half)
    visits = without_outliers([median for load in loads for median in load])
    return statistics.median(visits), median_interval(visits)


def _known(lut: Lut) -> Known:
    """Return how well the rows of a table are known."""
    rows = lut.rows.values()
    halves = [half_width_percent(row) for row in rows if row.isolated_us is not None]
    failed = [row.notes for row in rows if row.status == "failed"]
    return Known([math.inf if half is None else half for half in halves], failed, lut.metadata.network_error_percent)


def _row(spec: OpSpec, samples: Samples, failed: Mapping[str, str], notes: str) -> Row | None:
    """Return an operator's row as it was timed alone, None where it has not been visited."""
    key = spec.key()
    preempted = samples.preempted[key]
    if key in failed:
        return Row(spec, None, status="failed", notes=failed[key])
    if key not in samples.visits_us:
        if not preempted and not samples.implausible[key]:
            return None
        reason = f"all {preempted} samples were preempted by other work: close other programs, measure again"
        if samples.implausible[key]:
            reason = f"{samples.implausible[key]} samples are too short or too long for the device's clock to be right"
        return Row(spec, None, preempted=preempted, status="failed", notes=reason)
    every = [sample for visit in samples.visits_us[key] for sample in visit]
    latency_us, interval = latency_of(samples.medians_by_load_us(key))
    low, high = interval or (None, None)
    return Row(
        spec=spec,
        latency_us=latency_us,
        ci_low_us=low,
        ci_high_us=high,
        spread_us=interquartile_range(every),
        samples=len(every),
        preempted=preempted,
        isolated_us=latency_us,
        isolated_low_us=low,
        isolated_high_us=high,
        notes=notes,
    )


def reference_of(samples: Samples, blocks: Sequence[OpSpec] = LARGE) -> tuple[float, float | None] | None:
    """Return the latency of the reference workload's blocks in microseconds and half of its 95 % interval in percent.

    The latency is their geometric mean; None where one was not measured, an error None where the visits are too few.
    """
    latencies_us, errors = [], []
    for key in (reference(block).key for block in blocks):
        if key not in samples.visits_us:
            return None
        latency_us, interval = latency_of(samples.medians_by_load_us(key))
        latencies_us.append(latency_us)
        errors.append(None if interval is None else (interval[1] - interval[0]) / (2 * latency_us))
    error = math.hypot(*(e for e in errors if e is not None)) / len(errors)
    return round(statistics.geometric_mean(latencies_us), 3), None if None in errors else round(100 * error, 3)


def network_latencies_us(samples: Samples) -> dict[str, float]:
    """Return the latency of every measured network by its key."""
    keys = filter(is_network_key, samples.visits_us)
    return {key: latency_of(samples.medians_by_load_us(key))[0] for key in keys}


def _calibrate(
    rows: Mapping[str, Row], networks_us: Mapping[str, float], space: Space, is_grid: bool
) -> tuple[Calibration | None, int]:
    """Return the calibration by the networks whose operators are all measured, and how many those are.

    In a grid they may lie between measured ones: a network is a sum of rows there too, each by its weights. So the
    factors take interpolation into account, and the error for networks that were not seen has its error in it.
    """
    measured = [row for row in rows.values() if row.isolated_us is not None]
    number = {row.spec: index for index, row in enumerate(measured)}
    between = Interpolation(number if is_grid else [])
    counts, latencies = [], []
    for key, latency_us in networks_us.items():
        parts = [[(spec, 1.0)] if spec in number else between.parts(spec) for spec in network_specs(key, space)]
        if all(part is not None for part in parts):
            count = np.zeros(len(measured))
            for spec, weight in itertools.chain.from_iterable(part or [] for part in parts):
                count[number[spec]] += weight
            counts.append(count)
            latencies.append(latency_us)
    if len(latencies) < MIN_NETWORKS:
        return None, 0
    isolated = np.array([row.isolated_us for row in measured], dtype=np.float64)
    calibration = calibrate([row.spec for row in measured], isolated, np.array(counts), np.array(latencies))
    return calibration, len(latencies)


def _in_context(rows: Mapping[str, Row], calibration: Calibration) -> dict[str, Row]:
    """Return the rows with latencies as they are within a network, the factor's error in their intervals."""
    result = dict(rows)
    measured = [(key, row) for key, row in rows.items() if row.isolated_us is not None]
    for (key, row), factor, error in zip(measured, calibration.factor, calibration.factor_error, strict=True):
        assert row.isolated_us is not None
        latency_us = row.isolated_us * float(factor)
        relative_error = NORMAL_95 * float(error / factor)
        low = high = None
        if row.isolated_low_us is not None and row.isolated_high_us is not None:
            below = math.hypot(1 - row.isolated_low_us / row.isolated_us, relative_error)
            above = math.hypot(row.isolated_high_us / row.isolated_us - 1, relative_error)
            low, high = latency_us * max(1 - below, SMALLEST_SHARE), latency_us * (1 + above)
        result[key] = replace(row, latency_us=latency_us, ci_low_us=low, ci_high_us=high)
    return result


def without_outliers(values: Sequence[float]) -> list[float]:
    """Return the values within OUTLIER_DEVIATIONS scaled median absolute deviations of their median.

    Disturbances only ever make an operator slower: left in, a few percent of them would pull the median up by more
    than a narrow interval is wide. Fewer than OUTLIER_VALUES are too few to judge by, and all stay.
    """
    if len(values) < OUTLIER_VALUES:
        return [*values]
    middle = statistics.median(values)
    deviation = 1.4826 * statistics.median(abs(value - middle) for value in values)
    limit = OUTLIER_DEVIATIONS * deviation or math.inf
    return [value for value in values if abs(value - middle) <= limit]


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


def _metadata(content: JournalContent, samples: Samples) -> Metadata:
    identity = content.start.identity
    hello = content.sessions[0].hello
    drift = samples.drift
    operators = [count for key, count in content.counts.items() if is_operator_key(key)]
    large, small = reference_of(samples), reference_of(samples, SMALL)
    same = ("space", "device", "runtime", "precision", "threads", "runs", "dropped", "seed")
    fields = dict(
        **{name: identity[name] for name in same},
        runtime_version=hello.runtimes.get(identity["runtime"], "unknown"),
        runtime_options=identity.get("runtime_options"),
        cores=_bound_cores(identity["cores"], hello),
        device_model=hello.device_model,
        soc=hello.soc,
        system=hello.system,
        timing=content.start.timing,
        grid_points=identity.get("grid_points"),
        rounds=min(operators, default=0),
        agent=hello.agent,
        tool_version=content.start.tool_version,
        measured_at=hello.recorded_at or content.start.started_at,
        conditions=describe_conditions(content),
        drift_window_visits=2 * drift.half_window if drift else 0,
        drift_range_percent=round(drift.range_percent, 2) if drift else None,
        reference_us=large and large[0],
        reference_error_percent=large and large[1],
        small_reference_us=small and small[0],
        small_reference_error_percent=small and small[1],
        speed_error_percent=speed_error_percent(drift),
    )
    try:
        return Metadata.model_validate(fields)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        raise JournalError(f"the journal's {'.'.join(map(str, first['loc']))} cannot be: {first['msg']}") from None


def _bound_cores(asked: str | None, hello: Hello) -> str:
    """Return the numbers of the cores that the agent was bound to, `any` where it was not."""
    if asked is None:
        return "any"
    return ",".join(map(str, hello.cores)) if hello.cores else asked
