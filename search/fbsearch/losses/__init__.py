"""One file per loss: how accuracy and cost are weighed against each other in the θ step."""

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor

from fbbase.plugins import Plugins


class Loss(ABC):
    """How a step of θ weighs cross-entropy against cost. A file of this folder holds one class that derives from it."""

    needs_target: ClassVar[bool] = False
    """Whether the loss is defined only with a target."""

    expected_cost: ClassVar[bool] = False
    """Whether `cost` is the expected one under softmax(θ), exact and without noise, not that of the step's sample."""

    controlled: ClassVar[bool] = False
    """Whether θ is kept where the expected cost is the target (`fbsearch.beyond.target`)."""

    @abstractmethod
    def weigh(self, cross_entropy: Tensor, cost: Tensor, target: float) -> Tensor:
        """Return the loss, a scalar differentiable in both, and linear in the cross-entropy.

        `cost` and `target` have the unit of the cost in use (µs); `target` is not a number where there is none.
        """


LOSSES = Plugins("loss", "fbsearch.losses", base=Loss)
