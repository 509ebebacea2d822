"""lut: expected latency in µs from the device's table (FBNet, section 3.2)."""

from fblut.table import Lut
from fbsearch.costs import StepCost, sum_over
from fbspace.space import Space


def build(space: Space, lut: Lut) -> StepCost:
    """Return LAT(a) = Σ_l Σ_i m_{l,i} · LAT(b_{l,i}) + LAT(stem) + LAT(head) + what every network costs."""
    return sum_over(space, lut.latency_us, "µs", lut.metadata.network_us)
