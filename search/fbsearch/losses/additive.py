"""additive: CE(a, w) + λ · LAT(a) / target."""

from torch import Tensor

from fbsearch.losses import Weighing


def loss(cross_entropy: Tensor, cost: Tensor, weighing: Weighing) -> Tensor:
    """Return CE + λ · LAT / target. Raises SearchError without a target."""
    return cross_entropy + weighing.latency_weight * weighing.relative(cost)
