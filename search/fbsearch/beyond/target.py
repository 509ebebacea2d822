"""A target for the expected cost, held by a Lagrange multiplier: a price in the gradient, and a tilt of P_θ.

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
APPROACH = 0.5
"""Share of the steps of θ in which the expected cost goes from that of uniform P_θ to the target, geometrically."""
PRICE_RATE = 0.05
"""Share of a step's estimate in the average of the price."""
SMALLEST = 1e-30
"""Keeps the estimate finite where P_θ is one network and no gradient is left."""


def charge(theta: Sequence[Tensor], cost: ExpectedCost, target: float, price: float) -> float:
    """Make the gradient at θ that of the Lagrangian, L + λ · E[cost] / target, and return the new price λ.

    λ is the least-squares estimate of the multiplier, that which leaves least of the gradient along the constraint
    (Nocedal and Wright, Numerical Optimization, equation 18.21), averaged over steps. Adam scales each element of the
    gradient by itself: were loss and latency weighed after it, as the tilt does alone, what a layer is worth would be
    lost and only its latency count. Without a gradient nothing changes.
    """
    gradients = [theta_l.grad for theta_l in theta if theta_l.grad is not None]
    if not gradients:
        return price
    slopes = torch.autograd.grad(cost(softmax(theta)) / target, list(theta))
    all_slopes = torch.cat(slopes)
    along, length = float(torch.cat(gradients) @ all_slopes), float(all_slopes @ all_slopes)
    price += PRICE_RATE * (-along / max(length, SMALLEST) - price)
    for g, c in zip(gradients, slopes, strict=True):
        g += price * c
    return price


def approached(start: float, target: float, progress: float) -> float:
    """Return the cost at which θ is put when the share `progress` of its steps is done."""
    done = min(progress / APPROACH, 1.0)
    return float(start ** (1 - done) * target**done)


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

    def along(multiplier: float) -> float:
        return float(cost(softmax([t - multiplier * slope for t, slope in zip(start, slopes, strict=True)])))

    cost_at = _linear(start, slopes, here.item(), target) if isinstance(cost, AdditiveCost) else along

    def error(multiplier: float) -> float:
        return math.log(cost_at(multiplier) / target)

    multiplier, excess = 0.0, error(0.0)
    if abs(excess) > TOLERANCE:
        end = math.copysign(1.0, excess)
        while error(end) * excess > 0 and abs(end) < MAX_TILT:
            end *= 4
        multiplier = end if error(end) * excess > 0 else float(brentq(error, *sorted((0.0, end)), xtol=1e-9, rtol=1e-9))
        with torch.no_grad():
            for theta_l, slope in zip(theta, slopes, strict=True):
                theta_l -= multiplier * slope
    return multiplier


def _linear(theta: Sequence[Tensor], slopes: Sequence[Tensor], here: float, target: float) -> Callable[[float], float]:
    """Return λ · target → E[cost] of a cost that is linear in P_θ: P_θ times the slopes is all of it that changes."""
    rows, slope_rows = in_rows(theta).double().numpy(), in_rows(slopes, 0.0).double().numpy()

    def changing(multiplier: float) -> float:
        tilted = rows - multiplier * slope_rows
        p = np.exp(tilted - tilted.max(axis=1, keepdims=True))
        return float(((p * slope_rows).sum(axis=1) / p.sum(axis=1)).sum())

    constant = here / target - changing(0.0)
    return lambda multiplier: target * (constant + changing(multiplier))
