"""The controller on λ: the Lagrange multiplier with which the expected cost under softmax(θ) is the target.

Of all distributions with E[cost] = target, the one nearest to P_θ (least Kullback-Leibler divergence) is P_θ tilted:

    P(a) ∝ P_θ(a) · exp(−λ · cost(a)),    that is θ_l ← θ_l − λ · cost_l

(Csiszár, Annals of Probability 1975.) λ is found by root finding; it is negative where the target is above E[cost], so
candidates that cost more are pushed as readily as those that cost less. Among networks of one cost nothing changes.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from fbsearch.costs import AdditiveCost, ExpectedCost
from fbsearch.theta import in_rows, softmax

MAX_TILT = 1e3
"""λ times the target at most: beyond, θ decides on the cheapest (or dearest) candidate everywhere."""
TOLERANCE = 1e-6


def tilt(theta: Sequence[Tensor], cost: ExpectedCost, target: float) -> float:
    """Change θ in place so that the expected cost is the target, and return λ · target; as near as θ can come.

    A cost that is not linear in the probabilities (`ChainCost`: layers of which each depends on the width before it)
    is taken as its tangent at P_θ, along which λ is sought; the next step begins with another tangent.
    """
    from scipy.optimize import brentq

    p = [p_l.requires_grad_() for p_l in softmax([theta_l.detach() for theta_l in theta])]
    here = cost(p)
    # What a decision costs at least changes nothing: subtracting it keeps θ from drifting.
    slopes = [(slope - slope.min()) / target for slope in torch.autograd.grad(here, p)]
    start = [theta_l.detach() for theta_l in theta]
    linear = isinstance(cost, AdditiveCost)
    cost_at = _linear(start, slopes, here.item(), target) if linear else _along(start, slopes, cost)

    def error(multiplier: float) -> float:
        return math.log(cost_at(multiplier) / target)

    multiplier = 0.0
    excess = error(0.0)
    if abs(excess) > TOLERANCE:
        end = math.copysign(1.0, excess)
        while error(end) * excess > 0 and abs(end) < MAX_TILT:
            end *= 4
        multiplier = end if error(end) * excess > 0 else float(brentq(error, *sorted((0.0, end)), xtol=1e-9, rtol=1e-9))
        with torch.no_grad():
            for theta_l, slope in zip(theta, slopes, strict=True):
                theta_l -= multiplier * slope
    return multiplier


def _along(theta: Sequence[Tensor], slopes: Sequence[Tensor], cost: ExpectedCost) -> Callable[[float], float]:
    """Return λ · target → E[cost]."""

    def cost_at(multiplier: float) -> float:
        return float(cost(softmax([t - multiplier * slope for t, slope in zip(theta, slopes, strict=True)])))

    return cost_at


def _linear(theta: Sequence[Tensor], slopes: Sequence[Tensor], here: float, target: float) -> Callable[[float], float]:
    """Return the same of a cost that is linear in P_θ: P_θ times the slopes is all of it that changes."""
    rows, slope_rows = in_rows(theta).double().numpy(), in_rows(slopes, 0.0).double().numpy()

    def changing(multiplier: float) -> float:
        tilted = rows - multiplier * slope_rows
        p = np.exp(tilted - tilted.max(axis=1, keepdims=True))
        return float(((p * slope_rows).sum(axis=1) / p.sum(axis=1)).sum())

    constant = here / target - changing(0.0)
    return lambda multiplier: target * (constant + changing(multiplier))
