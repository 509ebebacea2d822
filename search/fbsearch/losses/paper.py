"""paper: CE(a, w) · α · log(LAT(a))^β (FBNet, section 3.2), LAT in µs, natural logarithm."""

from dataclasses import dataclass

from torch import Tensor

from fbbase.options import option
from fbsearch.losses import Loss


@dataclass(frozen=True)
class Paper(Loss):
    """The paper's loss; not a number where LAT is below 1 µs."""

    alpha: float = option(0.2, "α of the loss.", above=0)
    beta: float = option(0.6, "β of the loss.", above=0)

    def weigh(self, cross_entropy: Tensor, cost: Tensor, target: float) -> Tensor:
        """Return CE · α · log(LAT)^β."""
        return cross_entropy * self.alpha * cost.log() ** self.beta
