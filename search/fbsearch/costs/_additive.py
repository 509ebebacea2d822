"""What costs are made of: sums over steps, of which layers of independent candidates are the simplest."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from fbspace.opspec import OpSpec
from fbspace.space import Space


class ExpectedCost(Protocol):
    """What a network costs, differentiable in the weights m of the options of every decision."""

    unit: str
    """Unit of the result, e.g. `µs`."""

    def __call__(self, m: Sequence[Tensor]) -> Tensor:
        """Return the expected cost, a scalar; for one-hot weights that of the network they choose."""
        ...


@dataclass(frozen=True, slots=True)
class Edge:
    """One way to go on: options of the decisions of a step, what they cost, and the node that they lead to."""

    target: int
    cost: float
    options: tuple[int, ...]


Step = list[list[Edge]]
"""The edges from every node. A node is what later costs depend on: the width so far and the size."""


@runtime_checkable
class StepCost(ExpectedCost, Protocol):
    """A cost that is a sum over steps, each of which knows no more of the earlier ones than the node they led to.

    Only such a cost can have a target (`fbsearch.beyond.exact`). All begins at node 0.
    """

    @property
    def steps(self) -> list[Step]:
        """The steps in order; together their options are those of all decisions in order."""
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

    @property
    def steps(self) -> list[Step]:
        """One node throughout."""
        first = [[Edge(0, self.fixed, ())]]
        return [first, *([[Edge(0, c, (i,)) for i, c in enumerate(layer.tolist())]] for layer in self.layers)]
