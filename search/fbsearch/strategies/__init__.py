"""One file per strategy: how a layer's candidates are weighted in a step, and how they are put together.

A strategy is a module with the two functions of `Strategy`. One that finds its networks otherwise than by learning θ
also has the function of `Finder`; its supernet is then trained on networks drawn from the θ of the start, uniformly.
One that runs one candidate of a layer in a step says `ONE_PATH = True`.

Where it says `NETWORKS = 3`, samples are one-hot with the gradient of log P_θ, and a step of θ compares so many of them
(`fbsearch.beyond.score`); otherwise the gradient of the cross-entropy reaches θ through `layer`.
"""

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from fbbase.plugins import PluginFolder

STRATEGIES = PluginFolder("strategy", "fbsearch.strategies")

Block = Callable[[Tensor], Tensor]

Choices = tuple[int, ...]
"""A network: the index of the option chosen, decision by decision."""


class Strategy(Protocol):
    """What a module in this folder provides."""

    def sample(self, theta: Sequence[Tensor], temperature: float, generator: torch.Generator) -> list[Tensor]:
        """Return the weights m of the options of every decision for one step, differentiable in θ.

        One vector per decision (a layer's candidates), non-negative with sum one. All randomness comes from
        `generator`, which is what makes a search reproducible and resumable.
        """
        ...

    def layer(self, candidates: Sequence[Block], x: Tensor, m: Tensor) -> Tensor:
        """Return a layer's output for the input `x` under the weights `m` of its candidates."""
        ...


Draw = Callable[[Sequence[Tensor]], Choices | None]
"""Draws a network from P_θ, given θ, among those that come near the target; None where there is none."""


@runtime_checkable
class Finder(Protocol):
    """What a strategy provides that finds networks with the supernet's weights and without θ."""

    def find(
        self, draw: Draw, judge: Callable[[Choices], float], layers: Sequence[int], evaluations: int, seed: int
    ) -> list[Choices]:
        """Return networks, best first. `judge` returns a network's loss; `layers` holds the numbers of candidates."""
        ...


def learns_theta(strategy: Strategy) -> bool:
    """Whether θ is learned; otherwise the strategy is a `Finder`."""
    return not isinstance(strategy, Finder)


def networks_compared(strategy: Strategy) -> int:
    """Return how many networks a step of θ compares; 0 where θ's gradient comes through the network."""
    return int(getattr(strategy, "NETWORKS", 0))


def runs_one_path(strategy: Strategy) -> bool:
    """Whether one candidate of a layer is run in a step, and which one differs from step to step."""
    return bool(getattr(strategy, "ONE_PATH", False))


def load_strategy(name: str) -> Strategy:
    """Return a strategy by name. Raises UnknownNameError."""
    strategy: Strategy = STRATEGIES.module(name)  # a module that has the two functions
    return strategy
