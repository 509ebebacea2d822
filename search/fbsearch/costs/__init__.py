"""One file per cost: what a network costs; most are the sum of a number per operator."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor

from fbbase.plugins import Plugins
from fblut.table import Lut
from fbspace.blocks import is_identity
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
        costs = [[of(spec) for spec in layer.candidates.values()] for layer in space.layers]
        self.layers = [torch.tensor(of_layer, dtype=torch.float64) for of_layer in costs]

    def __call__(self, m: Sequence[Tensor]) -> Tensor:
        """Return the expected cost under the weights m."""
        return self.fixed + (torch.cat(list(m)).double() * torch.cat(self.layers)).sum()

    @property
    def steps(self) -> list[Step]:
        """One node throughout."""
        first = [[Edge(0, self.fixed, ())]]
        return [first, *([[Edge(0, c, (i,)) for i, c in enumerate(layer.tolist())]] for layer in self.layers)]


class Cost(ABC):
    """What a network costs. A file of this folder holds one class that derives from it, mostly by `OperatorCost`."""

    unit: ClassVar[str]
    """Unit of the cost, e.g. `µs`."""

    target_option: ClassVar[str] = "--target"
    """The option by which a target is given; `--target` is that of any cost."""

    target_unit: ClassVar[str] = ""
    """Unit in which a person gives a target, e.g. `ms`; empty: that of the cost."""

    target_factor: ClassVar[float] = 1.0
    """What a target is multiplied by to have the unit of the cost."""

    @abstractmethod
    def build(self, space: Space, lut: Lut) -> ExpectedCost:
        """Return the cost of a space's networks; only a `StepCost` can have a target."""


class OperatorCost(Cost):
    """A cost that is a sum over operators."""

    @abstractmethod
    def of(self, spec: OpSpec, lut: Lut) -> float:
        """Return what an operator that runs costs. Raises LutError where the table has no row for it."""

    def of_network(self, lut: Lut) -> float:
        """Return what every network costs beside its operators."""
        return 0.0

    def build(self, space: Space, lut: Lut) -> StepCost:
        """Return the sum where blocks alone are decided; `fbsearch.beyond.chain` takes any space."""
        space.refuse_masks("a sum over layers")
        return AdditiveCost(space, self.priced(lut), self.unit, self.of_network(lut))

    def priced(self, lut: Lut) -> Callable[[OpSpec], float]:
        """Return operator → cost; identities cost nothing."""
        return lambda spec: 0.0 if is_identity(spec) else self.of(spec, lut)


COSTS = Plugins("cost", "fbsearch.costs", base=Cost)
