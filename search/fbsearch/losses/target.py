"""target: CE(a, w) + λ · log(E[LAT] / target)², which pushes up as well as down and ends at the target."""

from torch import Tensor

from fbsearch.losses.additive import Additive


class Target(Additive):
    """A square around the target, and θ on the target after every step.

    The square alone would end where it balances cross-entropy, so the multiplier of the constraint E[LAT] = target puts
    θ on it (`fbsearch.beyond.target`); the square then only keeps steps from leaving it.
    """

    expected_cost = True
    controlled = True

    def weigh(self, cross_entropy: Tensor, cost: Tensor, target: float) -> Tensor:
        """Return CE + λ · log(LAT / target)²."""
        return cross_entropy + self.latency_weight * (cost / target).log() ** 2
