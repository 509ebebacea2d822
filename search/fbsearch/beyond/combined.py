"""Several costs in one, each by its share: `lut+0.5*params`."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from fblut.table import Lut
from fbsearch.beyond.chain import expected_cost, sum_over
from fbsearch.costs import COSTS, Cost, OperatorCost, StepCost
from fbsearch.errors import SearchError
from fbspace.space import Space


class Combined(Cost):
    """Σ_j w_j · cost_j(a) / cost_j(uniform), in percent of Σ_j w_j: costs of other units count by their share.

    Uniform is the expectation under P_θ of the start, in which all options are as likely.
    """

    unit = "% of uniform"

    def __init__(self, parts: Sequence[tuple[float, OperatorCost]]) -> None:
        self.parts = parts

    def build(self, space: Space, lut: Lut) -> StepCost:
        """Return the sum over operators in which each costs its share of each part."""
        uniform = [torch.full((len(d.options),), 1 / len(d.options)) for d in space.decisions]
        total = sum(weight for weight, _ in self.parts) / 100
        shares = [(w / total / float(expected_cost(cost, space, lut)(uniform)), cost) for w, cost in self.parts]
        prices = [(share, cost.priced(lut)) for share, cost in shares]
        network = sum(share * cost.of_network(lut) for share, cost in shares)
        return sum_over(space, lambda spec: sum(share * price(spec) for share, price in prices), self.unit, network)


def load_cost(name: str, options: Mapping[str, Any] | None = None) -> Cost:
    """Return a cost by name, or a sum, made with its own of the options. Raises UnknownNameError, SearchError."""
    parts = [(weight, COSTS.load_with(part, options or {})) for weight, part in weighed_parts(name)]
    if len(parts) == 1 and "*" not in name:
        return parts[0][1]
    sums = [(weight, cost) for weight, cost in parts if isinstance(cost, OperatorCost)]
    if len(sums) < len(parts):
        raise SearchError(f"--cost {name}: only costs that are sums over operators can be added up")
    return Combined(sums)


def weighed_parts(name: str) -> list[tuple[float, str]]:
    """Return the weights and the names in the name of a cost. Raises SearchError."""
    parts = []
    for weight, times, cost in (part.strip().rpartition("*") for part in name.split("+")):
        try:
            value = float(weight) if times else 1.0
        except ValueError:
            value = math.nan
        if not 0 < value < math.inf:
            raise SearchError(f"--cost: {weight!r} is not a weight; a sum of costs is written lut+0.5*params")
        parts.append((value, cost.strip()))
    return parts
