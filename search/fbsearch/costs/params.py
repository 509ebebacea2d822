"""params: expected number of parameters, for a network that has to be small rather than fast."""

from fblut.table import Lut
from fbsearch.costs import StepCost, sum_over
from fbspace.network import count_spec
from fbspace.space import Space


def build(space: Space, lut: Lut) -> StepCost:
    """Return the sum of the operators' parameters; the table is not looked at."""
    return sum_over(space, lambda spec: float(count_spec(spec).parameters), "parameters")
