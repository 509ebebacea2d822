"""One file per cost: what a network costs; most are the sum of a number per operator (`sum_over`)."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from fbbase.plugins import Plugins
from fblut.table import Lut
from fbsearch.costs._additive import AdditiveCost, Edge, ExpectedCost, Step, StepCost
from fbsearch.costs._chain import ChainCost
from fbsearch.costs._combined import CombinedCost
from fbsearch.errors import SearchError
from fbspace.opspec import OpSpec
from fbspace.space import Space

__all__ = ["AdditiveCost", "ChainCost", "Edge", "ExpectedCost", "Step", "StepCost"]


class Cost(ABC):
    """What a network costs. A file of this folder holds one class that derives from it."""

    unit: ClassVar[str]
    """Unit of the cost, e.g. `µs`."""

    target_option: ClassVar[str] = "--target"
    """The option that gives a target; the default takes one in `target_unit` for any cost."""

    target_unit: ClassVar[str] = ""
    """Unit in which a person gives a target, e.g. `ms`. Empty: that of the cost."""

    target_factor: ClassVar[float] = 1.0
    """What a target in `target_unit` is multiplied by to have the unit of the cost."""

    @abstractmethod
    def build(self, space: Space, lut: Lut) -> ExpectedCost:
        """Return the cost of the networks of a space; a target needs a `StepCost`, as `sum_over` makes it.

        Raises LutError where it needs a row that the table lacks.
        """


COSTS = Plugins("cost", "fbsearch.costs", base=Cost)


class _Sum(Cost):
    """Several costs in one, each by its share."""

    unit = CombinedCost.unit

    def __init__(self, parts: Sequence[tuple[float, Cost]]) -> None:
        self.parts = parts

    def build(self, space: Space, lut: Lut) -> ExpectedCost:
        """Return the sum. Raises SearchError for a part that is no sum over operators."""
        built = [(weight, cost.build(space, lut)) for weight, cost in self.parts]
        steps = [(weight, cost) for weight, cost in built if isinstance(cost, StepCost)]
        if len(steps) < len(built):
            raise SearchError("--cost: only costs that are sums over operators can be added up")
        return CombinedCost(space, steps)


def sum_over(space: Space, of: Callable[[OpSpec], float], unit: str, network: float = 0.0) -> StepCost:
    """Return the sum of a number per operator, and one that every network costs, as a cost."""
    return (ChainCost if space.is_masked else AdditiveCost)(space, of, unit, network)


def load_cost(name: str, options: Mapping[str, Any] | None = None) -> Cost:
    """Return a cost by name, or a sum of several such as `lut+0.5*params`, made with those options that it has.

    Raises UnknownNameError, and SearchError for a sum that is none.
    """
    parts = [(weight, COSTS.load(part, **COSTS.own_of(part, options or {}))) for weight, part in weighed_parts(name)]
    return parts[0][1] if len(parts) == 1 and "*" not in name else _Sum(parts)


def weighed_parts(name: str) -> list[tuple[float, str]]:
    """Return the weights and names in the name of a cost, such as `lut+0.5*params`. Raises SearchError."""
    return [_weighed(part) for part in name.split("+")]


def _weighed(part: str) -> tuple[float, str]:
    weight, times, name = part.strip().rpartition("*")
    try:
        value = float(weight) if times else 1.0
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise SearchError(f"--cost: {weight!r} is not a weight; a sum of costs is written lut+0.5*params")
    return value, name.strip()
