"""One file per cost: what a network costs, differentiable in the weights m of the options of every decision.

A cost is a module with `build(space, lut) -> Cost`; most are the sum of a number per operator (`sum_over`).
"""

import functools
import itertools
import math
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from fbbase.plugins import PluginFolder
from fblut.table import Lut
from fbsearch.errors import SearchError
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


@dataclass(frozen=True, slots=True)
class Edge:
    """One way to go on: options of the decisions of a step, what they cost, and the node that they lead to."""

    target: int
    cost: float
    options: tuple[int, ...]


Step = list[list[Edge]]
"""The edges from every node. A node is what later costs depend on: the width so far and the size."""


@runtime_checkable
class StepCost(Cost, Protocol):
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


class ChainCost:
    """A cost that is a sum over operators whose shapes are decided too: each depends on the width before it.

        cost(a) = network + Σ_s g_s · stem_s + Σ_l Σ_{s,i,k,j,o} g_s p_i m_k q_j r_o · T_l[s, i, k, j, o]

    g weighs sizes, p the widths that come in (the decision of the layer before), m blocks, q expansions, r the widths
    that go out; T_l holds the cost of every operator that layer l may be. The head is a layer without decisions. In a
    layer that keeps the width, o is i and has no weight of its own.

    FBNetV2 (section 3.3) takes the cost at the expected width and size in place of it. This is the expectation, and
    differs where the cost is not linear in a width. Both are exact at one-hot, where this is the sum of the rows.
    """

    def __init__(self, space: Space, of: Callable[[OpSpec], float], unit: str, network: float = 0.0) -> None:
        self.unit = unit
        cursors = list(space.cursors().values())
        index = {(d.layer, d.what): number for number, d in enumerate(space.decisions)}
        stems = [network + sum(map(of, space.placed(space.stem, at[0]))) for at in cursors]
        self.size = index.get((0, "size"))
        self.stem = torch.tensor(stems, dtype=torch.float64)
        self.tables: list[Tensor] = []
        self.decisions: list[list[int | None]] = []
        self.keeps: list[bool] = []
        ins: int | None = None
        tables: list[tuple[Any, Tensor]] = []
        for number, layer in enumerate(space.layers, start=1):
            alike = replace(layer, index=0), [at[number] for at in cursors]
            outs = 1 if layer.keeps_width else len(layer.widths) or 1
            if not tables or tables[-1][0] != alike:  # layers of a stage repeat
                costs = [array("d", map(of, space.options(layer, at[number]))) for at in cursors]
                options = len(layer.ins) or 1, len(layer.candidates), len(layer.expansions) or 1, outs
                tables.append((alike, torch.tensor(costs, dtype=torch.float64).reshape(len(cursors), *options)))
            self.tables.append(tables[-1][1])
            own = [index.get((layer.index, what)) for what in ("block", "expansion", "width")]
            self.decisions.append([ins, *own])
            self.keeps.append(layer.keeps_width)
            ins = ins if layer.keeps_width else own[-1]
        head, last = space.heads[space.head_channels], space.last_widths
        heads = [[sum(map(of, space.placed(head, at[-1].copy(c)))) for c in last or [None]] for at in cursors]
        self.tables.append(torch.tensor(heads, dtype=torch.float64)[:, :, None, None, None])
        self.decisions.append([ins, None, None, None])
        self.keeps.append(False)

    def __call__(self, m: Sequence[Tensor]) -> Tensor:
        """Return the expected cost under the weights m."""
        one = torch.ones(1, dtype=torch.float64)
        weights = [m_d.double() for m_d in m]
        by_size = self.stem
        for table, decisions in zip(self.tables, self.decisions, strict=True):
            for d in reversed(decisions):
                table = table @ (one if d is None else weights[d])
            by_size = by_size + table
        return by_size @ (one if self.size is None else weights[self.size])

    @functools.cached_property
    def steps(self) -> list[Step]:
        """Nodes are pairs of a size and a width, the width closest together."""
        stem: Step = [[Edge(s, c, () if self.size is None else (s,)) for s, c in enumerate(self.stem.tolist())]]
        return [stem, *map(_step, self.tables, self.decisions, self.keeps)]


def _step(table: Tensor, decisions: Sequence[int | None], keeps_width: bool) -> Step:
    sizes, ins, *options = table.shape
    outs, costs = options[-1], table.tolist()
    step: Step = []
    for s, i in itertools.product(range(sizes), range(ins)):
        edges = []
        for picked in itertools.product(*map(range, options)):
            k, j, o = picked
            taken = tuple(option for option, d in zip(picked, decisions[1:], strict=True) if d is not None)
            edges.append(Edge(s * ins + i if keeps_width else s * outs + o, costs[s][i][k][j][o], taken))
        step.append(edges)
    return step


def sum_over(space: Space, of: Callable[[OpSpec], float], unit: str, network: float = 0.0) -> StepCost:
    """Return the sum of a number per operator, and one that every network costs, as a cost."""
    make = ChainCost if space.is_masked else AdditiveCost
    return make(space, of, unit, network)


def build_cost(name: str, space: Space, lut: Lut) -> Cost:
    """Return a cost by name, or a sum of several such as `lut+0.5*params` (`costs/_combined.py`).

    Raises UnknownNameError, SearchError for a sum that is none, and LutError where the table lacks an operator.
    """
    parts = [_weighed(part) for part in name.split("+")]
    costs: list[tuple[float, Cost]] = [(weight, COSTS.module(part).build(space, lut)) for weight, part in parts]
    if len(costs) == 1 and "*" not in name:
        return costs[0][1]
    from fbsearch.costs._combined import CombinedCost

    steps = [(weight, cost) for weight, cost in costs if isinstance(cost, StepCost)]
    if len(steps) < len(costs):
        raise SearchError(f"--cost {name}: only costs that are sums over operators can be added up")
    return CombinedCost(space, steps)


def _weighed(part: str) -> tuple[float, str]:
    """Return the weight and the name of a part, such as `0.5*params`."""
    weight, times, name = part.strip().rpartition("*")
    try:
        value = float(weight) if times else 1.0
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise SearchError(f"--cost: {weight!r} is not a weight; a sum of costs is written lut+0.5*params")
    return value, name.strip()
