"""additive: CE(a, w) + λ · LAT(a) / target."""

from torch import Tensor

from fbsearch.settings import Settings


def loss(cross_entropy: Tensor, cost: Tensor, settings: Settings) -> Tensor:
    """Return CE + λ · LAT / target. Raises SearchError without a target."""
    return cross_entropy + settings.latency_weight * cost / settings.target_us
