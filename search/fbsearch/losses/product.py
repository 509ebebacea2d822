"""product: CE · α · β · log(LAT), the form that a public reproduction used in place of the paper's."""

from dataclasses import dataclass

from torch import Tensor

from fbbase.options import option
from fbsearch.losses import Loss


@dataclass(frozen=True)
class Product(Loss):
    """β as a factor in place of an exponent; LAT in µs."""

    alpha: float = option(0.2, "α of the loss.", above=0)
    beta: float = option(0.6, "β of the loss.", above=0)

    def weigh(self, cross_entropy: Tensor, cost: Tensor, target: float) -> Tensor:
        """Return CE · α · β · log(LAT)."""
        return cross_entropy * self.alpha * self.beta * cost.log()
