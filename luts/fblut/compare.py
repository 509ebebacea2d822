"""Comparing two tables of one space: per-operator ratios, their geometric mean, rank correlation, what differs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from fblut.check import space_name
from fblut.errors import LutError
from fblut.table import Lut

CONDITIONS = (
    "device",
    "soc",
    "runtime",
    "runtime_version",
    "precision",
    "threads",
    "cores",
    "timing",
    "calibration_networks",
)
"""Metadata that decide what a latency means; a comparison says where they differ."""


@dataclass(frozen=True, slots=True)
class OperatorRatio:
    """One operator in both tables; `ratio` is second over first."""

    key: str
    first_us: float
    second_us: float

    @property
    def ratio(self) -> float:
        """Second latency over first."""
        return self.second_us / self.first_us


@dataclass(frozen=True, slots=True)
class Comparison:
    """What two tables have in common and where they differ.

    `geometric_mean` is that of all ratios, `spearman` the rank correlation of the latencies (None below 3 operators),
    `differences` maps a metadata field to both values, `only_first` and `only_second` are keys without a partner.
    """

    operators: tuple[OperatorRatio, ...]
    geometric_mean: float
    spearman: float | None
    differences: dict[str, tuple[object, object]]
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]

    def most_different(self, count: int) -> list[OperatorRatio]:
        """Return the operators whose ratio is farthest from the geometric mean, in either direction."""
        return sorted(self.operators, key=lambda o: -abs(math.log(o.ratio / self.geometric_mean)))[:count]


def compare(first: Lut, second: Lut) -> Comparison:
    """Compare two tables. Raises LutError for tables of different spaces or without a common operator."""
    if space_name(first.metadata) != space_name(second.metadata):
        raise LutError(
            f"the tables are of different spaces, {first.metadata.space!r} and {second.metadata.space!r}: "
            "their operators are not the same"
        )
    a = {key: row.latency_us for key, row in first.rows.items() if row.latency_us is not None}
    b = {key: row.latency_us for key, row in second.rows.items() if row.latency_us is not None}
    operators = tuple(OperatorRatio(key, a[key], b[key]) for key in a if key in b)
    if not operators:
        raise LutError("the tables have no measured operator in common")
    return Comparison(
        operators=operators,
        geometric_mean=math.exp(sum(math.log(o.ratio) for o in operators) / len(operators)),
        spearman=spearman([o.first_us for o in operators], [o.second_us for o in operators]),
        differences={
            name: (left, right)
            for name in CONDITIONS
            if (left := getattr(first.metadata, name)) != (right := getattr(second.metadata, name))
        },
        only_first=tuple(key for key in a if key not in b),
        only_second=tuple(key for key in b if key not in a),
    )


def spearman(x: Sequence[float], y: Sequence[float]) -> float | None:
    """Return Spearman's rank correlation (ties share their mean rank), None below 3 pairs or without variation."""
    import pandas as pd

    if len(x) < 3 or len(set(x)) == 1 or len(set(y)) == 1:
        return None
    return float(pd.Series(x).rank().corr(pd.Series(y).rank()))
