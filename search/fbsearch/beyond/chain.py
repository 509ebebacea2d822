"""The cost of networks whose shapes are decided too: what a layer costs depends on the width before it."""

import functools
import itertools
from array import array
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from fblut.table import Lut
from fbsearch.costs import AdditiveCost, Cost, Edge, ExpectedCost, OperatorCost, Step, StepCost
from fbspace.opspec import OpSpec
from fbspace.space import Space


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
    step: Step = []
    for s, i in itertools.product(range(sizes), range(ins)):
        edges = []
        for picked, cost in zip(itertools.product(*map(range, options)), table[s, i].flatten().tolist(), strict=True):
            taken = tuple(option for option, d in zip(picked, decisions[1:], strict=True) if d is not None)
            edges.append(Edge(s * ins + i if keeps_width else s * options[-1] + picked[-1], cost, taken))
        step.append(edges)
    return step


def sum_over(space: Space, of: Callable[[OpSpec], float], unit: str, network: float = 0.0) -> StepCost:
    """Return the sum of a number per operator, and one that every network costs, as a cost."""
    return (ChainCost if space.is_masked else AdditiveCost)(space, of, unit, network)


def expected_cost(cost: Cost, space: Space, lut: Lut) -> ExpectedCost:
    """Return what the networks of any space cost. Raises LutError where the table lacks an operator."""
    if isinstance(cost, OperatorCost):
        return sum_over(space, cost.priced(lut), cost.unit, cost.of_network(lut))
    return cost.build(space, lut)
