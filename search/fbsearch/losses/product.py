"""product: CE · α · β · log(LAT), the form that a public reproduction used in place of the paper's."""

from torch import Tensor

from fbsearch.losses import Weighing


def loss(cross_entropy: Tensor, cost: Tensor, weighing: Weighing) -> Tensor:
    """Return CE · α · β · log(LAT), LAT in µs."""
    return cross_entropy * weighing.alpha * weighing.beta * cost.log()
