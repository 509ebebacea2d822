"""Prediction error: networks predicted and measured, how far they lie apart, and whether a device is additive."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fblut.statistics import kendall, spearman
from fblut.table import Lut, Prediction
from fbprof.plan.subject import Subject
from fbspace.opspec import OpSpec

FEWEST_NETWORKS = 8
"""Fewer networks than this say nothing about a device."""
ADDITIVE_MAPE_PERCENT = 5.0
ADDITIVE_NOISE_FLOORS = 3.0
"""A mean error within so many noise floors may be the measurement's own."""
ADDITIVE_SPEARMAN = 0.9
SPREAD_PERCENT = 10.0
"""Networks must differ by more (standard deviation, in percent of the mean) for their order to say something."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A network to validate by: a random one, or a published one by its name."""

    name: str
    choices: tuple[str, ...]
    head_channels: int
    is_published: bool
    subject: Subject


@dataclass(frozen=True, slots=True)
class Result:
    """One network, predicted and measured, in microseconds.

    `table` is the table's sum and its 95 % interval, `predicted` the same at the device's present speed.
    `measured_us` is the median of the visits, `ci_us` its 95 % interval (None below 6 visits), and `halves_us` the
    same for the first and the second half of the visits (None for a single one).
    """

    candidate: Candidate
    table: Prediction
    predicted: Prediction
    measured_us: float
    ci_us: tuple[float, float] | None
    halves_us: tuple[float, float] | None

    @property
    def error_percent(self) -> float:
        """How far the prediction lies above the measurement."""
        return 100 * (self.predicted.latency_us / self.measured_us - 1)

    @property
    def table_error_percent(self) -> float:
        """How far the table as it stands lies above the measurement."""
        return 100 * (self.table.latency_us / self.measured_us - 1)


@dataclass(frozen=True, slots=True)
class OperatorResult:
    """An operator between a grid's points: timed alone, and as interpolated at the present speed, in microseconds."""

    spec: OpSpec
    predicted_us: float
    measured_us: float

    @property
    def error_percent(self) -> float:
        """How far the prediction lies above the measurement."""
        return 100 * (self.predicted_us / self.measured_us - 1)


@dataclass(frozen=True, slots=True)
class Figures:
    """What results amount to; errors are predictions at the present speed against measurements, in percent.

    MAPE is the mean absolute error, `bias_percent` the mean signed one, `unscaled_mape_percent` that of the table as it
    stands. `spearman` and `kendall` (τ-b) are None where not defined. Measuring the same networks twice, the halves of
    their visits, gives `noise_floor_percent`, the mean difference (an upper bound, since a half has half the visits),
    and `noise_spearman`; None for a single visit. `coverage_percent` of the networks were measured within their
    predicted 95 % interval, None without intervals. `spread_percent` is the standard deviation of the latencies.
    """

    mape_percent: float
    median_percent: float
    p95_percent: float
    bias_percent: float
    unscaled_mape_percent: float
    spearman: float | None
    kendall: float | None
    noise_floor_percent: float | None
    noise_spearman: float | None
    coverage_percent: float | None
    spread_percent: float


def figures_of(results: Sequence[Result]) -> Figures:
    """Return the figures of one result or more."""
    error = np.array([r.error_percent for r in results])
    measured = [r.measured_us for r in results]
    predicted = [r.predicted.latency_us for r in results]
    halves = [r.halves_us for r in results if r.halves_us is not None]
    inside = [ends[0] <= r.measured_us <= ends[1] for r in results if (ends := r.predicted.interval) is not None]
    return Figures(
        mape_percent=float(np.mean(np.abs(error))),
        median_percent=float(np.median(np.abs(error))),
        p95_percent=float(np.percentile(np.abs(error), 95)),
        bias_percent=float(np.mean(error)),
        unscaled_mape_percent=float(np.mean([abs(r.table_error_percent) for r in results])),
        spearman=spearman(predicted, measured),
        kendall=kendall(predicted, measured),
        noise_floor_percent=float(np.mean([100 * abs(a / b - 1) for a, b in halves])) if halves else None,
        noise_spearman=spearman([a for a, _ in halves], [b for _, b in halves]),
        coverage_percent=100 * float(np.mean(inside)) if inside else None,
        spread_percent=100 * float(np.std(measured) / np.mean(measured)),
    )


def additivity(figures: Figures, networks: int, lut: Lut) -> tuple[bool | None, str]:
    """Return whether sums of operators may be trusted on this device, None where that is not known, and why."""
    if networks < FEWEST_NETWORKS:
        return None, f"none: {networks} networks are too few to judge by, {FEWEST_NETWORKS} are needed"
    floor = figures.noise_floor_percent or 0.0
    is_off = figures.mape_percent > ADDITIVE_MAPE_PERCENT
    objections = []
    if is_off and figures.mape_percent > ADDITIVE_NOISE_FLOORS * floor:
        objections.append(f"the mean error is {figures.mape_percent:.1f} %, of measuring twice {floor:.1f} %")
    order_counts = figures.spread_percent > max(SPREAD_PERCENT, ADDITIVE_NOISE_FLOORS * floor)
    if order_counts and figures.spearman is not None and figures.spearman < ADDITIVE_SPEARMAN:
        objections.append(f"the rank correlation is {figures.spearman:.2f}")
    if is_off and not objections:
        return None, (
            f"none: the mean error is {figures.mape_percent:.1f} %, but the same networks measured twice differ by "
            f"{floor:.1f} %: close other programs, and measure more with --rounds"
        )
    if not objections:
        return True, f"additive: sums of operators miss unseen networks by {figures.mape_percent:.1f} % on average"
    is_calibrated = lut.metadata.calibration_networks > 0
    if lut.metadata.origin == "fitted":
        remedy = (
            "fit again to networks measured now, if the device's speed may have changed, or measure the networks "
            "themselves with fbprof verify"
        )
    elif is_calibrated:
        remedy = "use fbprof fit on measured networks, and see whether its held-out error is smaller"
    else:
        remedy = "the table is not calibrated: fbprof measure --calibrate 50, then validate again"
    return False, (
        f"not additive{', even after calibration' if is_calibrated else ''}: {' and '.join(objections)}. "
        f"The sum of operators must not be trusted on this device; {remedy}"
    )
