"""Drift: a device's speed while it is measured, estimated together with what is measured, from the samples alone.

Every sample is log latency = operator + drift(time) + noise. Neighbours in time share the drift and, since the order
is random, nothing else: the median of the neighbours' residuals is the drift at a moment, whatever its shape (steps,
ramps, saw-teeth, bursts), and single outliers do not move it. A sample never counts as its own neighbour, so nothing
is gained from drift that is not there.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.intp]

HALF_WINDOWS = (2, 3, 4, 6, 8, 12, 16, 24, 32, 64)
"""Neighbours on each side that are tried; the one that predicts samples it has not seen best is taken."""
ITERATIONS = 6


@dataclass(frozen=True, slots=True)
class Drift:
    """The device's speed over a run: `log_factor` per sample in order of time, mean zero (0.01: 1 % slower).

    `half_window` neighbours on each side were used; 0 means no drift was assumed.
    """

    log_factor: Floats
    half_window: int

    @property
    def range_percent(self) -> float:
        """How far apart the slow and the fast moments are: between the 5th and the 95th percentile."""
        low, high = np.percentile(self.log_factor, [5, 95])
        return float(100 * (np.exp(high - low) - 1))


def neighbour_median(at: Floats, times: Floats, values: Floats, half_window: int) -> Floats:
    """Return the median of the values of as many samples before as after each moment of `at`; `times` ascend.

    A sample at exactly that moment is left out. Near an end the missing neighbours are taken from the other side.
    """
    before, after = np.searchsorted(times, at, "left"), np.searchsorted(times, at, "right")
    window = min(2 * half_window, len(times) - 1)
    if window < 1:
        return np.zeros(len(at))
    taken_before = np.clip(half_window, window - (len(times) - after), before)[:, None]
    step = np.arange(window)
    chosen = np.where(step < taken_before, before[:, None] - taken_before + step, after[:, None] - taken_before + step)
    medians: Floats = np.median(values[chosen], axis=1)
    return medians


def estimate_operators(
    operators: Integers, log_latency: Floats, half_windows: Sequence[int] = HALF_WINDOWS
) -> tuple[Floats, Drift]:
    """Return the log latency of every operator and the drift, from visits in order of time.

    `operators` numbers the operator of each visit from 0; `log_latency` is the natural logarithm of what it took. The
    window that leaves the smallest error in samples it has not seen is taken, or none where drift explains nothing.
    """
    order = np.arange(len(log_latency), dtype=np.float64)
    level = _medians(operators, log_latency)
    best_error = float(np.mean(np.abs(log_latency - level[operators])))
    best = level, Drift(np.zeros(len(order)), 0)
    for half_window in half_windows:
        if 4 * half_window > len(order):
            break
        factor = np.zeros(len(order))
        for _ in range(ITERATIONS):
            level = _medians(operators, log_latency - factor)
            factor = neighbour_median(order, order, log_latency - level[operators], half_window)
            factor -= np.mean(factor)
        level = _medians(operators, log_latency - factor)
        error = float(np.mean(np.abs(log_latency - factor - level[operators])))
        if error < best_error:
            best_error, best = error, (level, Drift(factor, half_window))
    return best


def _medians(groups: Integers, values: Floats) -> Floats:
    """Return the median of the values of each group; groups are numbered from 0 without gaps."""
    by_group = np.argsort(groups, kind="stable")
    return np.array([np.median(part) for part in np.split(values[by_group], np.cumsum(np.bincount(groups))[:-1])])


def estimate_additive(
    parts: Floats, latency: Floats, times: Floats, half_window: int, ridge: float = 1e-4
) -> tuple[Floats, Floats]:
    """Return the latency of every part and the log drift at `times`, from whole networks that are sums of parts.

    `parts` is networks × parts (0 or 1), `latency` any unit, `times` ascend; `half_window` 0 assumes no drift. Relative
    errors are what counts: iteratively reweighted least squares on latency ratios (Huber's weights).
    """
    factor = np.zeros(len(latency))
    weight = np.ones(len(latency))
    for _ in range(ITERATIONS):
        scaled = parts * (np.exp(factor) / latency)[:, None]
        weighted = scaled * weight[:, None]
        cost = np.linalg.solve(scaled.T @ weighted + ridge * np.eye(parts.shape[1]), weighted.sum(0))
        residual = np.log(latency / np.maximum(parts @ cost, 1e-3 * latency))
        if half_window:
            factor = neighbour_median(times, times, residual, half_window)
        error = np.abs(residual - factor)
        scale = 1.4826 * np.median(error)
        weight = 1 / np.maximum(1, error / max(2 * scale, 1e-12))
    # centred on the median: a drift that is none may not pass for one by correcting a bias of the fit
    centred: Floats = cost * np.exp(np.median(residual - factor))
    return centred, factor


def choose_half_window(parts: Floats, latency: Floats, times: Floats) -> int:
    """Return the half window whose drift leaves the smallest error in networks it has not seen, 0 for no drift."""
    errors = {}
    for half_window in (0, *HALF_WINDOWS):
        cost, factor = estimate_additive(parts, latency, times, half_window)
        predicted = np.maximum(parts @ cost, 1e-3 * latency) * np.exp(factor)
        errors[half_window] = float(np.mean(np.abs(np.log(latency / predicted))))
    return min(errors, key=errors.__getitem__)
