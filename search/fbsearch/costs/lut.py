"""lut: expected latency in µs from the device's table (FBNet, section 3.2)."""

from fblut.table import Lut
from fbsearch.costs import OperatorCost
from fbspace.opspec import OpSpec


class Latency(OperatorCost):
    """LAT(a) = Σ_l Σ_i m_{l,i} · LAT(b_{l,i}) + LAT(stem) + LAT(head) + what every network costs."""

    unit = "µs"
    target_option = "--target-ms"
    target_unit = "ms"
    target_factor = 1e3

    def of(self, spec: OpSpec, lut: Lut) -> float:
        """Return the latency of the table's row."""
        return lut.latency_us(spec)

    def of_network(self, lut: Lut) -> float:
        """Return the table's latency of every network."""
        return lut.metadata.network_us
