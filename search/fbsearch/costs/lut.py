"""lut: expected latency in µs from the device's table (FBNet, section 3.2)."""

from fblut.table import Lut
from fbsearch.costs import Cost, StepCost, sum_over
from fbspace.space import Space


class Latency(Cost):
    """LAT(a) = Σ_l Σ_i m_{l,i} · LAT(b_{l,i}) + LAT(stem) + LAT(head) + what every network costs."""

    unit = "µs"
    target_option, target_unit, target_factor = "--target-ms", "ms", 1e3

    def build(self, space: Space, lut: Lut) -> StepCost:
        """Return the sum of the table's rows."""
        return sum_over(space, lut.latency_us, self.unit, lut.metadata.network_us)
