"""target: CE(a, w) + λ · log(E[LAT] / target)², which pushes up as well as down and ends at the target."""

from dataclasses import dataclass

from torch import Tensor

from fbbase.options import option
from fbsearch.losses import Loss


@dataclass(frozen=True)
class Target(Loss):
    """A square around the target, and θ on the target after every step.

    The square alone would end where it balances cross-entropy, so the multiplier of the constraint E[LAT] = target puts
    θ on it (`fbsearch.beyond.target`); the square then only keeps steps from leaving it.
    """

    needs_target = True
    expected_cost = True
    controlled = True
    latency_weight: float = option(1.0, "λ, the weight of the cost.", above=0)

    def weigh(self, cross_entropy: Tensor, cost: Tensor, target: float) -> Tensor:
        """Return CE + λ · log(LAT / target)²."""
        return cross_entropy + self.latency_weight * (cost / target).log() ** 2
