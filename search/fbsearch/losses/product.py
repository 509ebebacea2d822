"""product: CE · α · β · log(LAT), the form that a public reproduction used in place of the paper's."""

from torch import Tensor

from fbsearch.losses.paper import Paper


class Product(Paper):
    """β as a factor in place of an exponent; LAT in µs."""

    def weigh(self, cross_entropy: Tensor, cost: Tensor, target: float) -> Tensor:
        """Return CE · α · β · log(LAT)."""
        return cross_entropy * self.alpha * self.beta * cost.log()
