"""Calibrate: operators timed alone, put into the context of whole networks by a few dozen measured ones.

Alone, an operator finds its input where it left it, in its own layout; within a network it finds what the layer before
left. What that is worth differs by operator, but not at random: it is common to all, to those of one input size, to
those of one kernel and expansion, and a little each operator's own. So its latency within a network is

    isolated · (1 + common + size + candidate + own)

and every network costs `network_us` on top. The parts are estimated from measured networks by ridge regression on
relative errors: each kind of part is shrunk towards zero by the ratio of its variance to the noise's. Every choice of
ratios is tried and counts by how well it predicts networks that were left out (leave-one-out, in closed form from the
hat matrix): an average of all, not the best one, so that two runs give the same rows (Bayesian model averaging with
leave-one-out likelihoods: Yao et al., Using stacking to average Bayesian predictive distributions, 2018, section 3.4).
"""

import itertools
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fbspace.opspec import OpSpec

Floats = NDArray[np.float64]

MIN_NETWORKS = 8
"""With fewer measured networks a table stays as it is."""
FLAT = 1e4
"""Ratio of variances that shrinks nothing."""
RATIOS = (0.0, 1.0, 10.0, 100.0)
NETWORK_RATIOS = (0.0, 1.0, 10.0)
PARSIMONY = 0.5
"""What a free parameter costs a choice, in units of log likelihood: predictions hardly change, and rows of two runs
agree better (docs/measuring/method.md)."""
SMALLEST_FACTOR = 0.2
"""A choice of ratios that would make any operator faster than this share of its isolated latency is not considered."""

LEVELS: tuple[tuple[str, Callable[[OpSpec], Hashable], tuple[float, ...]], ...] = (
    ("common", lambda spec: None, (FLAT,)),
    ("size", lambda spec: (spec.height, spec.width), RATIOS),
    ("candidate", lambda spec: (spec.kind, spec.kernel, spec.expansion, spec.groups, spec.parameters), RATIOS),
    ("own", lambda spec: spec, RATIOS),
)
"""What operators share: name, which of them belong together, and the ratios of variances that are tried."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """What turns isolated latencies into those within a network.

    `factor` and its standard error `factor_error`, one per operator; `network_us` is what every network costs beside
    its operators. `error_percent` is the root mean square error for networks left out.
    """

    factor: Floats
    factor_error: Floats
    network_us: float
    error_percent: float


def calibrate(operators: Sequence[OpSpec], isolated_us: Floats, counts: Floats, measured_us: Floats) -> Calibration:
    """Return the calibration of operators by measured networks.

    `isolated_us` has one latency per operator, `counts` says how often each network (row) has each operator (column),
    `measured_us` is each network's latency. Raises ValueError for fewer than MIN_NETWORKS.
    """
    if len(measured_us) < MIN_NETWORKS:
        raise ValueError(f"{len(measured_us)} networks are too few to calibrate by")
    members = [_membership([group(spec) for spec in operators]) for _, group, _ in LEVELS]
    share = counts * isolated_us / measured_us[:, None]  # of each network's latency, by operator
    scale_us = float(np.median(measured_us))
    parts = [*(share @ member for member in members), scale_us / measured_us[:, None]]
    target = 1 - share.sum(1)
    to_factor = np.hstack([*members, np.zeros((len(operators), 1))])
    fits = []
    for ratios in itertools.product(*(level[2] for level in LEVELS), NETWORK_RATIOS):
        deviations = np.sqrt(np.repeat(ratios, [part.shape[1] for part in parts]))
        fit = _ridge(np.hstack(parts) * deviations, target)
        scaled = to_factor * deviations
        factor = 1 + scaled @ fit.coefficients
        if factor.min() >= SMALLEST_FACTOR:
            network_us = float(deviations[-1] * fit.coefficients[-1]) * scale_us
            fits.append((fit.error, fit.parameters, factor, fit.variance(scaled), network_us))
    if not fits:
        raise ValueError("the networks contradict the operators: no factor makes their sum the network's latency")
    errors, parameters, factors, variances, networks_us = (np.array(column) for column in zip(*fits, strict=True))
    log_weights = -len(target) * np.log(errors / errors.min()) - PARSIMONY * parameters
    weights = np.exp(log_weights - log_weights.max())
    weights /= weights.sum()
    factor = weights @ factors
    return Calibration(
        factor=factor,
        factor_error=np.sqrt(weights @ (variances + (factors - factor) ** 2)),
        network_us=float(weights @ networks_us),
        error_percent=float(100 * weights @ errors),
    )


def _membership(labels: Sequence[Hashable]) -> Floats:
    """Return operators × groups, 1 where an operator belongs to a group."""
    groups = list(dict.fromkeys(labels))
    return np.array([[float(label == group) for group in groups] for label in labels])


@dataclass(frozen=True, slots=True)
class _Fit:
    """A ridge regression; `error` is the root mean square error of observations that are left out.

    `parameters` is how many free ones the shrunken coefficients amount to.
    """

    design: Floats
    inverse: Floats
    coefficients: Floats
    noise: float
    error: float
    parameters: float

    def variance(self, directions: Floats) -> Floats:
        """Return the variance of the coefficients along directions, d' · noise · (D'D + I)⁻¹ · d for every row d."""
        seen = directions @ self.design.T
        variance: Floats = self.noise * ((directions**2).sum(1) - ((seen @ self.inverse) * seen).sum(1))
        return np.maximum(variance, 0.0)


def _ridge(design: Floats, target: Floats) -> _Fit:
    """Minimise ‖target − design·β‖² + ‖β‖²; scaled columns shrink in proportion to their scale.

    There are fewer observations than coefficients, so what is inverted is DD' + I: (D'D + I)⁻¹ = I − D'(DD' + I)⁻¹D.
    """
    kernel = design @ design.T
    inverse = np.asarray(np.linalg.inv(kernel + np.eye(len(target))), dtype=np.float64)
    hat = kernel @ inverse
    residual = target - hat @ target
    parameters = float(np.trace(hat))
    noise = float(residual @ residual) / max(len(target) - parameters, 1.0)
    left_out = residual / (1 - np.diag(hat))
    error = float(np.sqrt(np.mean(left_out**2)))
    return _Fit(design, inverse, design.T @ (inverse @ target), noise, error, parameters)
