"""additive: CE(a, w) + λ · LAT(a) / target."""

from dataclasses import dataclass

from torch import Tensor

from fbbase.options import option
from fbsearch.losses import Loss


@dataclass(frozen=True)
class Additive(Loss):
    """A share of the target costs as much as λ of cross-entropy."""

    needs_target = True
    latency_weight: float = option(1.0, "λ, the weight of the cost.", above=0)

    def weigh(self, cross_entropy: Tensor, cost: Tensor, target: float) -> Tensor:
        """Return CE + λ · LAT / target."""
        return cross_entropy + self.latency_weight * (cost / target)
