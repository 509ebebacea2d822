"""paper: CE(a, w) · α · log(LAT(a))^β (FBNet, section 3.2), LAT in µs, natural logarithm."""

from torch import Tensor

from fbsearch.losses import Weighing


def loss(cross_entropy: Tensor, cost: Tensor, weighing: Weighing) -> Tensor:
    """Return CE · α · log(LAT)^β; not a number where LAT is below 1 µs."""
    return cross_entropy * weighing.alpha * cost.log() ** weighing.beta
