"""params: expected number of parameters, for a network that has to be small rather than fast."""

from fblut.table import Lut
from fbsearch.costs import AdditiveCost
from fbspace.network import count_spec
from fbspace.space import Space


def build(space: Space, lut: Lut) -> AdditiveCost:
    """Return the sum of the operators' parameters; the table is not looked at."""
    return AdditiveCost(space, lambda spec: float(count_spec(spec).parameters), "parameters")
