"""One file per strategy: how a layer's candidates are weighted in a step, and how they are put together.

A strategy is a module with the two functions of `Strategy`.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from fbbase.plugins import PluginFolder

STRATEGIES = PluginFolder("strategy", "fbsearch.strategies")


class Strategy(Protocol):
    """What a module in this folder provides."""

    def sample(self, theta: Sequence[Tensor], temperature: float, generator: torch.Generator) -> list[Tensor]:
        """Return the weights m of every layer's candidates for one step, differentiable in θ.

        One vector per layer, non-negative with sum one. All randomness comes from `generator`, which is what makes
        a search reproducible and resumable.
        """
        ...

    def layer(self, candidates: nn.ModuleList, x: Tensor, m: Tensor) -> Tensor:
        """Return a layer's output for the input `x` under the weights `m`."""
        ...


def load_strategy(name: str) -> Strategy:
    """Return a strategy by name. Raises UnknownNameError."""
    strategy: Strategy = STRATEGIES.load(name)  # a module that has the two functions
    return strategy
