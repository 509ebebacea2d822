"""params: expected number of parameters, for a network that has to be small rather than fast."""

from fblut.table import Lut
from fbsearch.costs import OperatorCost
from fbspace.network import count_spec
from fbspace.opspec import OpSpec


class Parameters(OperatorCost):
    """The sum of the operators' parameters; the table is not looked at."""

    unit = "parameters"
    target_option = "--target-mparams"
    target_unit = "million parameters"
    target_factor = 1e6

    def of(self, spec: OpSpec, lut: Lut) -> float:
        """Return an operator's parameters."""
        return float(count_spec(spec).parameters)
