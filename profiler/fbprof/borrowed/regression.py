"""Regression: what every part of a network costs, from whole networks in measured order, and how well it predicts.

A network's latency is a sum of parts, the first one a constant, times the device's speed at the moment it was measured.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from fblut.statistics import spearman
from fblut.table import NORMAL_95
from fbprof.estimate.drift import Drift, choose_half_window, estimate_additive, neighbour_median

Floats = NDArray[np.float64]

HELD_OUT = 5
"""One network in so many is held out to be predicted."""
HUBER = 2.0
"""Residuals beyond so many scaled deviations lose weight, as in `estimate_additive`."""


@dataclass(frozen=True, slots=True)
class Regression:
    """Cost of every part (the first is the constant) in the unit of the latencies, with its 95 % interval.

    `estimate` and `error` are the least squares estimate and its standard error. Where that interval reaches 0
    (`uncertain`), cost and interval are those of the normal distribution cut off at 0.
    """

    cost: Floats
    low: Floats
    high: Floats
    estimate: Floats
    error: Floats
    uncertain: frozenset[int]
    drift: Drift


@dataclass(frozen=True, slots=True)
class HeldOut:
    """How well networks are predicted that the fit has not seen, static and with the drift of their neighbours in time.

    `networks` is their number, MAPE the mean absolute error in percent, `error_percent` the root mean square error
    with drift; Spearman's ρ is None where all are equal.
    """

    networks: int
    mape_percent_static: float
    mape_percent_drift: float
    spearman_static: float | None
    spearman_drift: float | None
    error_percent: float


def regress(counts: Floats, latency: Floats, half_window: int | None = None) -> Regression:
    """Return the cost of every part of networks in measured order.

    `counts` is networks × parts, the first part a constant; `half_window` as in `estimate_additive`, sought unless
    given. The covariance is that of Huber's estimator, K²·(Σψ²/(n − p))/m²·(XᵀX)⁻¹ with ψ the bounded residuals, m the
    share that is not bounded, and K = 1 + p/n·(1 − m)/m (Huber, Robust Statistics, section 7.6).
    """
    unit = float(np.median(latency))
    relative = latency / unit
    times = np.arange(len(latency), dtype=np.float64)
    if half_window is None:
        half_window = choose_half_window(counts, relative, times)
    cost, factor = estimate_additive(counts, relative, times, half_window)
    level = float(np.mean(factor))  # the table is at the run's mean speed
    cost, factor = cost * np.exp(level), factor - level
    residual = _log_ratio(relative, counts @ cost) - factor
    limit = HUBER * 1.4826 * float(np.median(np.abs(residual)))
    bounded = np.clip(residual, -limit, limit)
    n, p = counts.shape
    inside = float(np.mean(np.abs(residual) <= limit))
    correction = (1 + p / n * (1 - inside) / inside) / inside
    variance = correction**2 * float(bounded @ bounded) / (n - p)
    scaled = counts * (np.exp(factor) / relative)[:, None]
    covariance = variance * np.linalg.pinv(scaled.T @ scaled, hermitian=True)
    return _positive(cost, covariance, unit, Drift(factor, half_window))


def _positive(estimate: Floats, covariance: Floats, unit: float, drift: Drift) -> Regression:
    """Return a regression without costs that are not positive.

    A cost whose 95 % interval reaches 0 becomes the mean of its distribution above 0. The others follow as the
    covariance says, so that sums stay as measured; those that reach 0 thereby join, until none does.
    """
    error = np.sqrt(np.maximum(np.diag(covariance), 1e-18))
    cost = estimate.copy()
    low, high = np.empty_like(cost), np.empty_like(cost)
    uncertain: list[int] = []
    while True:
        others = [i for i in range(len(cost)) if i not in uncertain]
        reach = [i for i in others if i > 0 and cost[i] - NORMAL_95 * error[i] <= 0]
        if not reach:
            break
        for i in reach:
            low[i], cost[i], high[i] = above_zero(cost[i], error[i])
        uncertain += reach
        others = [i for i in others if i not in reach]
        moved = np.linalg.pinv(covariance[np.ix_(uncertain, uncertain)], hermitian=True) @ (cost - estimate)[uncertain]
        cost[others] = estimate[others] + covariance[np.ix_(others, uncertain)] @ moved
    low[others], high[others] = cost[others] - NORMAL_95 * error[others], cost[others] + NORMAL_95 * error[others]
    return Regression(unit * cost, unit * low, unit * high, unit * estimate, unit * error, frozenset(uncertain), drift)


def above_zero(mean: float, deviation: float) -> tuple[float, float, float]:
    """Return the 2.5 % quantile, the mean and the 97.5 % quantile of a normal distribution cut off at 0."""
    normal = NormalDist()
    z = max(mean / deviation, -30.0)  # beyond, the normal distribution's tail is no number any more
    inside = math.erfc(-z / math.sqrt(2)) / 2  # the share above 0; normal.cdf is not exact in the tail
    low, high = (z - normal.inv_cdf(inside * above) for above in (0.975, 0.025))
    return deviation * low, deviation * (z + normal.pdf(z) / inside), deviation * high


def _log_ratio(measured: Floats, predicted: Floats) -> Floats:
    ratio: Floats = np.log(measured / np.maximum(predicted, 1e-3 * measured))
    return ratio


def held_out(counts: Floats, latency: Floats, seed: int) -> HeldOut:
    """Return how well a random fifth of networks in measured order is predicted by a regression on the others.

    With drift, a network's speed is that of its neighbours in time among the others. Networks with an operator that
    none of the others has are left out.
    """
    order = np.random.default_rng(seed).permutation(len(latency))
    split = len(latency) * (HELD_OUT - 1) // HELD_OUT
    train, test = np.sort(order[:split]), np.sort(order[split:])
    known = counts[train].any(0)
    test = test[~counts[test][:, ~known].any(1)]
    parts = counts[:, known]
    static = parts[test] @ regress(parts[train], latency[train], half_window=0).cost
    result = regress(parts[train], latency[train])
    drifted = parts[test] @ result.cost
    if result.drift.half_window:
        residual = _log_ratio(latency[train], parts[train] @ result.cost)
        moments = test.astype(np.float64), train.astype(np.float64)
        drifted = drifted * np.exp(neighbour_median(*moments, residual, result.drift.half_window))
    off_static, off_drift = 100 * (static / latency[test] - 1), 100 * (drifted / latency[test] - 1)
    return HeldOut(
        networks=len(test),
        mape_percent_static=float(np.mean(np.abs(off_static))),
        mape_percent_drift=float(np.mean(np.abs(off_drift))),
        spearman_static=spearman(list(static), list(latency[test])),
        spearman_drift=spearman(list(drifted), list(latency[test])),
        error_percent=float(np.sqrt(np.mean(off_drift**2))),
    )
