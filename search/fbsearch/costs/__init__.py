"""One file per cost: what a network costs, differentiable in the weights m of the candidates.

A cost is a module with `build(space, lut) -> Cost`.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from fbbase.plugins import PluginFolder
from fblut.table import Lut
from fbspace.opspec import OpSpec
from fbspace.space import Space

COSTS = PluginFolder("cost", "fbsearch.costs")


class Cost(Protocol):
    """What `build` returns."""

    unit: str
    """Unit of the result, e.g. `µs`."""

    def __call__(self, m: Sequence[Tensor]) -> Tensor:
        """Return the expected cost, a scalar; for one-hot weights that of the network they choose."""
        ...


class AdditiveCost:
    """A cost that is a sum over operators; stem, head and what every network costs (`network`) are the fixed part.

        cost(a) = fixed + Σ_l Σ_i m_{l,i} · cost(b_{l,i})

    In double precision, so that a one-hot m gives the sum of the table's rows.
    """

    def __init__(self, space: Space, of: Callable[[OpSpec], float], unit: str, network: float = 0.0) -> None:
        self.unit = unit
        self.fixed = network + sum(of(spec) for spec in [*space.stem, *space.heads[space.head_channels]])
        self.layers = [
            torch.tensor([of(spec) for spec in layer.candidates.values()], dtype=torch.float64)
            for layer in space.layers
        ]

    def __call__(self, m: Sequence[Tensor]) -> Tensor:
        """Return the expected cost under the weights m."""
        return self.fixed + (torch.cat(list(m)).double() * torch.cat(self.layers)).sum()


def build_cost(name: str, space: Space, lut: Lut) -> Cost:
    """Return a cost by name. Raises UnknownNameError, and LutError where the table lacks an operator."""
    cost: Cost = COSTS.load(name).build(space, lut)
    return cost
