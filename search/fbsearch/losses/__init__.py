"""One file per loss: how accuracy and cost are weighed against each other in the θ step.

A loss is a module with the function of `Loss`. Where it also says `EXPECTED_COST = True`, it is given the expected cost
under softmax(θ), not that of the step's sample; where it says `CONTROLLED = True`, θ is kept where that is the target.
"""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from fbbase.plugins import PluginFolder
from fbsearch.errors import SearchError

LOSSES = PluginFolder("loss", "fbsearch.losses")


@dataclass(frozen=True, slots=True)
class Weighing:
    """What a loss weighs with: α, β and λ of the settings, and the objective's target in the cost's unit."""

    alpha: float = 0.2
    beta: float = 0.6
    latency_weight: float = 1.0
    target: float | None = None

    def relative(self, cost: Tensor) -> Tensor:
        """Return LAT / target. Raises SearchError where there is no target."""
        if self.target is None:
            raise SearchError("this loss needs a target latency: give --target-ms, or choose another --loss")
        return cost / self.target


class Loss(Protocol):
    """What a module in this folder provides."""

    def loss(self, cross_entropy: Tensor, cost: Tensor, weighing: Weighing) -> Tensor:
        """Return the loss, a scalar differentiable in both; `cost` has the unit of the cost in use (µs)."""
        ...


def takes_expected_cost(loss: Loss) -> bool:
    """Whether a loss is given the expected cost under softmax(θ) in the θ step."""
    return bool(getattr(loss, "EXPECTED_COST", False))


def is_controlled(loss: Loss) -> bool:
    """Whether the expected cost is kept at the target by its Lagrange multiplier (`fbsearch.beyond.target`)."""
    return bool(getattr(loss, "CONTROLLED", False))


def load_loss(name: str) -> Loss:
    """Return a loss by name. Raises UnknownNameError."""
    loss: Loss = LOSSES.module(name)  # a module that has the function
    return loss
