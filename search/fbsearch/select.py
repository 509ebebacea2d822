"""The most probable networks within a range of costs, exactly: A* with a bound from dynamic programming.

    max_a Σ_l log P_θ(a_l)   subject to   low ≤ fixed + Σ_l cost(a_l) ≤ high

Costs are added as the decimals they print as, so a network that costs exactly `high` is within it.
"""

import heapq
import math
from collections import Counter
from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from fbsearch.costs import AdditiveCost

BUCKETS = 1 << 14
"""Steps that the bound divides the costs into. More make it tighter, never another answer."""

Costs = list[list[int]]
Floats = npt.NDArray[np.float64]


def reachable(cost: AdditiveCost) -> tuple[float, float]:
    """Return the cost of the cheapest and of the dearest network of the space."""
    exact = [[_exact(value) for value in layer.tolist()] for layer in cost.layers]
    fixed = _exact(cost.fixed)
    return float(fixed + sum(map(min, exact))), float(fixed + sum(map(max, exact)))


def most_probable(
    log_p: Sequence[Sequence[float]], cost: AdditiveCost, low: float, high: float, count: int = 1
) -> list[tuple[int, ...]]:
    """Return the `count` most probable networks that cost `low` to `high`, best first; fewer where there are no more.

    `log_p` holds log P_θ of every layer's candidates. Log-probabilities closer than 1e-9 count as equal.
    """
    layers, (low_units, high_units) = _integers(cost, low, high)
    bound = _Bound(log_p, layers, low_units, high_units)
    found: list[tuple[int, ...]] = []
    visits: Counter[tuple[int, int]] = Counter()
    # The best bound first, of equal ones the longest prefix; g and spent are the prefix's log P and cost.
    queue: list[tuple[float, int, tuple[int, ...], float, int]] = []

    def push(prefix: tuple[int, ...], g: float, spent: int) -> None:
        best = bound(len(prefix), spent)
        if best > -math.inf:
            heapq.heappush(queue, (-round(g + best, 9), -len(prefix), prefix, g, spent))

    push((), 0.0, 0)
    while queue and len(found) < count:
        _, _, prefix, g, spent = heapq.heappop(queue)
        depth = len(prefix)
        if depth == len(layers):
            found.append(prefix)
            continue
        visits[depth, spent] += 1
        if visits[depth, spent] > count:  # as many better prefixes of the same cost have the same continuations
            continue
        for choice, (log_p_i, cost_i) in enumerate(zip(log_p[depth], layers[depth], strict=True)):
            push((*prefix, choice), g + log_p_i, spent + cost_i)
    return found


class _Bound:
    """An upper bound of the log P that the remaining layers can add while the whole stays within low to high.

    In layer l, best[l][b] is the greatest log P of layers l, l+1, … whose costs, each rounded down to buckets, sum to
    b buckets: their true sum lies between b and b + (number of those layers) buckets.
    """

    def __init__(self, log_p: Sequence[Sequence[float]], layers: Costs, low: int, high: int) -> None:
        self.low, self.high = low, high
        self.least, self.most = _rest(layers, min), _rest(layers, max)
        self.width = max(1, high // BUCKETS)
        size = max(0, high // self.width) + 1
        self.best: list[Floats] = [np.full(size, -math.inf) for _ in range(len(layers) + 1)]
        self.best[-1][0] = 0.0
        for depth in range(len(layers) - 1, -1, -1):
            here, after = self.best[depth], self.best[depth + 1]
            for log_p_i, cost_i in zip(log_p[depth], layers[depth], strict=True):
                b = cost_i // self.width
                if b < size:
                    np.maximum(here[b:], after[: size - b] + log_p_i, out=here[b:])

    def __call__(self, depth: int, spent: int) -> float:
        """Return the bound for prefixes of `depth` layers that cost `spent`; -inf where none can be completed."""
        low, high = self.low - spent, self.high - spent
        if self.least[depth] > high or self.most[depth] < low:
            return -math.inf
        first = max(0, low // self.width - (len(self.best) - 1 - depth))
        return float(self.best[depth][first : high // self.width + 1].max(initial=-math.inf))


def _rest(layers: Costs, extreme: Callable[[list[int]], int]) -> list[int]:
    """Return what the layers from l on cost at least or at most, for every l."""
    sums = [0]
    for layer in reversed(layers):
        sums.append(sums[-1] + extreme(layer))
    return sums[::-1]


def _integers(cost: AdditiveCost, low: float, high: float) -> tuple[Costs, tuple[int, int]]:
    """Return costs and range in whole units, less what every network costs: fixed part and cheapest candidates."""
    exact = [[_exact(value) for value in layer.tolist()] for layer in cost.layers]
    always = _exact(cost.fixed) + sum(map(min, exact))
    limits = _exact(low) - always, _exact(high) - always
    unit = math.lcm(*(x.denominator for x in [*limits, *(value for layer in exact for value in layer)]))
    layers = [[int((value - min(layer)) * unit) for value in layer] for layer in exact]
    return layers, (int(limits[0] * unit), int(limits[1] * unit))


def _exact(value: float) -> Fraction:
    return Fraction(repr(float(value)))
