"""target: CE(a, w) + λ · |log(E[LAT] / target)|, which pushes up as well as down."""

from torch import Tensor

from fbsearch.settings import Settings

EXPECTED_COST = True
"""E[LAT] under softmax(θ) in place of the sample's latency: exact, without noise."""


def loss(cross_entropy: Tensor, cost: Tensor, settings: Settings) -> Tensor:
    """Return CE + λ · |log(LAT / target)|. Raises SearchError without a target."""
    return cross_entropy + settings.latency_weight * (cost / settings.target_us).log().abs()
