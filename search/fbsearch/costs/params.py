"""params: expected number of parameters, for a network that has to be small rather than fast."""

from fblut.table import Lut
from fbsearch.costs import Cost, StepCost, sum_over
from fbspace.network import count_spec
from fbspace.space import Space


class Params(Cost):
    """The sum of the operators' parameters; the table is not looked at."""

    unit = "parameters"
    target_option, target_unit, target_factor = "--target-mparams", "million parameters", 1e6

    def build(self, space: Space, lut: Lut) -> StepCost:
        """Return the sum."""
        return sum_over(space, lambda spec: float(count_spec(spec).parameters), self.unit)
