"""macs: expected multiply-accumulates, for a search that knows no device."""

from fblut.table import Lut
from fbsearch.costs import Cost, StepCost, sum_over
from fbspace.network import count_spec
from fbspace.space import Space


class Macs(Cost):
    """The sum of the operators' multiply-accumulates; the table is not looked at."""

    unit = "MACs"
    target_option, target_unit, target_factor = "--target-mmacs", "million MACs", 1e6

    def build(self, space: Space, lut: Lut) -> StepCost:
        """Return the sum."""
        return sum_over(space, lambda spec: float(count_spec(spec).macs), self.unit)
