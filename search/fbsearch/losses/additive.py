"""additive: CE(a, w) + (λ + μ) · LAT(a) / target; the controller moves μ until E[LAT] is the target."""

from torch import Tensor

from fbsearch.losses import Weighing

CONTROLLED = True
"""μ may make the weight negative: cross-entropy alone can drift to a network of skips, far below the target."""


def loss(cross_entropy: Tensor, cost: Tensor, weighing: Weighing) -> Tensor:
    """Return CE + (λ + μ) · LAT / target. Raises SearchError without a target."""
    return cross_entropy + (weighing.latency_weight + weighing.multiplier) * weighing.relative(cost)
