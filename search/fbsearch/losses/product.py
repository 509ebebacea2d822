"""product: CE · α · β · log(LAT), the form that a public reproduction used in place of the paper's."""

from torch import Tensor

from fbsearch.settings import Settings


def loss(cross_entropy: Tensor, cost: Tensor, settings: Settings) -> Tensor:
    """Return CE · α · β · log(LAT), LAT in µs."""
    return cross_entropy * settings.alpha * settings.beta * cost.log()
