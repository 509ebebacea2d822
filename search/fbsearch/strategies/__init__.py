"""One file per strategy: how a layer's candidates are weighted in a step, and how they are put together."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from fbbase.plugins import Plugins

Block = Callable[[Tensor], Tensor]

Choices = tuple[int, ...]
"""A network: the index of the option chosen, decision by decision."""

Sampler = Callable[[Sequence[Tensor]], Choices | None]
"""Samples a network from P_θ, given θ, among those that come near the target; None where there is none."""

LossOf = Callable[[Choices], float]
"""Returns a network's loss under the supernet's weights."""


class Strategy(ABC):
    """How candidates are weighted and run. A file of this folder holds one class that derives from it."""

    one_path: ClassVar[bool] = False
    """Whether one candidate of a layer runs in a step, and which one differs from step to step."""

    compares: ClassVar[int] = 0
    """Networks that a step of θ compares (`fbsearch.beyond.score`). Their samples are one-hot with the gradient of
    log P_θ. With 0, θ's gradient comes through `layer`."""

    @abstractmethod
    def sample(self, theta: Sequence[Tensor], temperature: float, generator: torch.Generator) -> list[Tensor]:
        """Return the weights m of the options of every decision for one step, differentiable in θ.

        One vector per decision (a layer's candidates), non-negative with sum one. All randomness comes from
        `generator`, which makes a search reproducible and resumable.
        """

    @abstractmethod
    def layer(self, candidates: Sequence[Block], x: Tensor, m: Tensor) -> Tensor:
        """Return a layer's output for the input `x` under the weights `m` of its candidates."""

    def find(self, sampler: Sampler, loss: LossOf, layers: Sequence[int], evaluations: int, seed: int) -> list[Choices]:
        """Return networks, best first: of a strategy that finds them by the supernet's weights alone.

        It has no θ steps, and its supernet is trained on uniform samples. `layers` holds the numbers of candidates.
        """
        raise NotImplementedError

    @property
    def learns_theta(self) -> bool:
        """Whether θ is learned, which is so where `find` is not overridden."""
        return type(self).find is Strategy.find


STRATEGIES = Plugins("strategy", "fbsearch.strategies", base=Strategy)
