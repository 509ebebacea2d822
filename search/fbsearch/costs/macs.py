"""macs: expected multiply-accumulates, for a search that knows no device."""

from fblut.table import Lut
from fbsearch.costs import OperatorCost
from fbspace.network import count_spec
from fbspace.opspec import OpSpec


class Macs(OperatorCost):
    """The sum of the operators' multiply-accumulates; the table is not looked at."""

    unit = "MACs"
    target_option = "--target-mmacs"
    target_unit = "million MACs"
    target_factor = 1e6

    def of(self, spec: OpSpec, lut: Lut) -> float:
        """Return an operator's multiply-accumulates."""
        return float(count_spec(spec).macs)
