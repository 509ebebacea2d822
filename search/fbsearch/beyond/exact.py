"""The most probable networks within a range of costs, exactly: A* with a bound from dynamic programming.

    max_a Σ_l log P_θ(a_l)   subject to   low ≤ cost(a) ≤ high

The cost is a sum over steps (`StepCost`), of which layers of independent candidates are the simplest.

Costs are added as the decimals they print as, so a network that costs exactly `high` is within it.
"""

import heapq
import math
from collections import Counter
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from fbsearch.costs import Edge, Step, StepCost

BUCKETS, FEW_BUCKETS = 1 << 14, 1 << 12
"""Steps that the bound divides the costs into. More make it tighter, never another answer."""
MANY_EDGES = 1 << 13
"""Ways to go on in all steps from which the bound takes few buckets."""

Way = tuple[int, float, int, tuple[int, ...]]
"""An edge: target, log P, cost in units, options."""
Ways = list[list[list[Way]]]
Floats = npt.NDArray[np.float64]


def reachable(cost: StepCost) -> tuple[float, float]:
    """Return the cost of the cheapest and of the dearest network of the space."""
    exact = [[[(edge.target, _exact(edge.cost)) for edge in node] for node in step] for step in cost.steps]
    return float(_rest(exact, min)[0][0]), float(_rest(exact, max)[0][0])


def most_probable(
    log_p: Sequence[Sequence[float]], cost: StepCost, low: float, high: float, count: int = 1
) -> list[tuple[int, ...]]:
    """Return the `count` most probable networks that cost `low` to `high`, best first; fewer where there are no more.

    `log_p` holds log P_θ of the options of every decision. Log-probabilities closer than 1e-9 count as equal.
    """
    ways, (low_units, high_units) = _ways(log_p, cost.steps, low, high)
    bound = _Bound(ways, low_units, high_units)
    found: list[tuple[int, ...]] = []
    visits: Counter[tuple[int, int, int]] = Counter()
    # The best bound first, of equal ones the longest prefix; g and spent are the prefix's log P and cost.
    queue: list[tuple[float, int, tuple[int, ...], int, float, int]] = []

    def push(depth: int, node: int, prefix: tuple[int, ...], g: float, spent: int) -> None:
        best = bound(depth, node, spent)
        if best > -math.inf:
            heapq.heappush(queue, (-round(g + best, 9), -depth, prefix, node, g, spent))

    push(0, 0, (), 0.0, 0)
    while queue and len(found) < count:
        _, minus_depth, prefix, node, g, spent = heapq.heappop(queue)
        depth = -minus_depth
        if depth == len(ways):
            found.append(prefix)
            continue
        visits[depth, node, spent] += 1
        if visits[depth, node, spent] > count:  # as many better prefixes have the same continuations
            continue
        for target, log_p_i, cost_i, options in ways[depth][node]:
            push(depth + 1, target, prefix + options, g + log_p_i, spent + cost_i)
    return found


class _Bound:
    """An upper bound of the log P that the remaining steps can add while the whole stays within low to high.

    At a node before step l, best[l][node][b] is the greatest log P of steps l, l+1, … whose costs, each rounded down
    to buckets, sum to b buckets: their true sum lies between b and b + (number of those steps) buckets.
    """

    def __init__(self, ways: Ways, low: int, high: int) -> None:
        self.low, self.high = low, high
        costs = [[[(way[0], way[2]) for way in node] for node in step] for step in ways]
        self.least, self.most = _rest(costs, min), _rest(costs, max)
        edges = sum(len(node) for step in ways for node in step)
        self.width = max(1, high // (BUCKETS if edges < MANY_EDGES else FEW_BUCKETS))
        size = max(0, high // self.width) + 1
        nodes = [len(step) for step in ways] + [1 + max(way[0] for node in ways[-1] for way in node)]
        self.best: list[list[Floats]] = [[np.full(size, -math.inf) for _ in range(count)] for count in nodes]
        for best in self.best[-1]:
            best[0] = 0.0
        for depth in range(len(ways) - 1, -1, -1):
            after = self.best[depth + 1]
            for here, node in zip(self.best[depth], ways[depth], strict=True):
                likeliest: dict[tuple[int, int], float] = {}
                for target, log_p_i, cost_i, _ in node:
                    at = target, cost_i // self.width
                    likeliest[at] = max(log_p_i, likeliest.get(at, -math.inf))
                for (target, b), log_p_i in likeliest.items():
                    if b < size:
                        np.maximum(here[b:], after[target][: size - b] + log_p_i, out=here[b:])

    def __call__(self, depth: int, node: int, spent: int) -> float:
        """Return the bound for prefixes that have come to a node and cost `spent`; -inf where none can be completed."""
        low, high = self.low - spent, self.high - spent
        if self.least[depth][node] > high or self.most[depth][node] < low:
            return -math.inf
        first = max(0, low // self.width - (len(self.best) - 1 - depth))
        return float(self.best[depth][node][first : high // self.width + 1].max(initial=-math.inf))


def _rest(steps: Sequence[Sequence[Sequence[tuple[int, Any]]]], extreme: Callable[..., Any]) -> list[list[Any]]:
    """Return what the steps from l on cost at least or at most from every node, for every l."""
    last = 1 + max(target for node in steps[-1] for target, _ in node)
    rest: list[list[Any]] = [[0] * last]
    for step in reversed(steps):
        rest.append([extreme(cost + rest[-1][target] for target, cost in node) for node in step])
    return rest[::-1]


def _ways(
    log_p: Sequence[Sequence[float]], steps: Sequence[Step], low: float, high: float
) -> tuple[Ways, tuple[int, int]]:
    """Return edges and range with costs in whole units, less what every network costs: the cheapest of each step."""
    exact = {cost: _exact(cost) for cost in {edge.cost for step in steps for node in step for edge in node}}
    least = [min(exact[edge.cost] for node in step for edge in node) for step in steps]
    limits = _exact(low) - sum(least), _exact(high) - sum(least)
    unit = math.lcm(*(x.denominator for x in [*limits, *exact.values(), *least]))
    units = {cost: int(value * unit) for cost, value in exact.items()}
    first, ways = 0, []
    for step, least_here in zip(steps, least, strict=True):
        decided = log_p[first : first + len(step[0][0].options)]
        less = int(least_here * unit)
        ways.append([[_way(edge, decided, units[edge.cost] - less) for edge in node] for node in step])
        first += len(decided)
    return ways, (int(limits[0] * unit), int(limits[1] * unit))


def _way(edge: Edge, log_p: Sequence[Sequence[float]], cost: int) -> Way:
    return edge.target, sum(of_d[i] for of_d, i in zip(log_p, edge.options, strict=True)), cost, edge.options


def _exact(value: float) -> Fraction:
    return Fraction(repr(float(value)))
