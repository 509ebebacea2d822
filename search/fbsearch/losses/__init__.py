"""One file per loss: how accuracy and cost are weighed against each other in the θ step.

A loss is a module with the function of `Loss`. Where it also says `EXPECTED_COST = True`, it is given the expected cost
under softmax(θ), not that of the step's sample.
"""

from typing import Protocol

from torch import Tensor

from fbbase.plugins import PluginFolder
from fbsearch.settings import Settings

LOSSES = PluginFolder("loss", "fbsearch.losses")


class Loss(Protocol):
    """What a module in this folder provides."""

    def loss(self, cross_entropy: Tensor, cost: Tensor, settings: Settings) -> Tensor:
        """Return the loss, a scalar differentiable in both; `cost` has the unit of the cost in use (µs)."""
        ...


def takes_expected_cost(loss: Loss) -> bool:
    """Whether a loss is given the expected cost under softmax(θ) in the θ step."""
    return bool(getattr(loss, "EXPECTED_COST", False))


def load_loss(name: str) -> Loss:
    """Return a loss by name. Raises UnknownNameError."""
    loss: Loss = LOSSES.load(name)  # a module that has the function
    return loss
