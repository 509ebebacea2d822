"""target: CE(a, w) + μ · r + λ/2 · r², r = log(E[LAT] / target); it pushes up as well as down.

This is the augmented Lagrangian of min CE subject to E[LAT] = target (Nocedal and Wright, Numerical Optimization,
section 17.3): the square holds E[LAT] near the target, and the controller's μ takes out what remains.
"""

from torch import Tensor

from fbsearch.losses import Weighing

EXPECTED_COST = True
"""E[LAT] under softmax(θ) in place of the sample's latency: exact, without noise."""
CONTROLLED = True


def loss(cross_entropy: Tensor, cost: Tensor, weighing: Weighing) -> Tensor:
    """Return CE + μ · r + λ/2 · r². Raises SearchError without a target."""
    r = weighing.relative(cost).log()
    return cross_entropy + weighing.multiplier * r + 0.5 * weighing.latency_weight * r**2
