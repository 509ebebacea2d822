"""Prediction: what a table says of a whole network, of which it may lack operators that are estimated."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from fblut.table import INTERPOLATED, NORMAL_95, Lut, Prediction
from fbspace.opspec import OpSpec

Origin = Literal["measured", "interpolated", "fixed", "estimated"]
"""Where an operator's latency comes from: its row, rows around it, none as it is part of every network's fixed cost,
or a regression on the rows of others."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """The latency in microseconds of an operator that a table lacks, and its standard error in percent.

    `is_beyond` says that it is larger than all that the table has.
    """

    name: str
    latency_us: float
    error_percent: float
    is_beyond: bool

    @property
    def prediction(self) -> Prediction:
        """The latency with its 95 % interval."""
        half_us = NORMAL_95 * self.latency_us * self.error_percent / 100
        return Prediction(self.latency_us, max(self.latency_us - half_us, 0.0), self.latency_us + half_us)


@dataclass(frozen=True, slots=True)
class Part:
    """An operator of a network: how often it is there, and what it takes each time."""

    name: str
    count: int
    each: Prediction
    origin: Origin
    is_beyond: bool = False

    @property
    def latency_us(self) -> float:
        """What all of its occurrences take."""
        return self.count * self.each.latency_us


@dataclass(frozen=True, slots=True)
class NetworkPrediction:
    """A network's latency, and the parts that it is the sum of beside the fixed cost `network_us`, the dearest first.

    `estimated_by` names the regression that estimated operators come of, None where there are none.
    """

    name: str
    total: Prediction
    network_us: float
    parts: tuple[Part, ...]
    estimated_by: str | None

    def operators(self, *origins: Origin) -> int:
        """Return how many operators are of these origins, every occurrence counted."""
        return sum(part.count for part in self.parts if part.origin in origins)

    @property
    def estimated(self) -> Prediction:
        """What the estimated operators take together; they are of one regression, so their intervals add up."""
        parts = [(part.count, part.each) for part in self.parts if part.origin == "estimated"]
        latency_us = sum(count * each.latency_us for count, each in parts)
        half_us = sum(count * ((each.ci_high_us or 0.0) - each.latency_us) for count, each in parts)
        return Prediction(latency_us, max(latency_us - half_us, 0.0), latency_us + half_us)


def predict(
    name: str, lut: Lut, specs: Sequence[OpSpec], estimates: Sequence[Estimate] = (), estimated_by: str | None = None
) -> NetworkPrediction:
    """Return the prediction for a network of operators that the table knows, and of others that were estimated.

    Raises LutError where the table does not know one of the former.
    """
    parts = [_part(spec, count, lut) for spec, count in Counter(specs).items()]
    for each, count in Counter(estimates).items():
        parts.append(Part(each.name, count, each.prediction, "estimated", each.is_beyond))
    return NetworkPrediction(
        name=name,
        total=lut.predict(specs, beside=[each.prediction for each in estimates]),
        network_us=lut.metadata.network_us,
        parts=tuple(sorted(parts, key=lambda part: -part.latency_us)),
        estimated_by=estimated_by if estimates else None,
    )


def _part(spec: OpSpec, count: int, lut: Lut) -> Part:
    latency_us, row = lut.latency_us(spec), lut.row(spec)
    assert row is not None  # its latency has just been read
    origin: Origin = "fixed" if row.status == "fixed" else "interpolated" if row.notes == INTERPOLATED else "measured"
    return Part(spec.key(), count, Prediction(latency_us, row.ci_low_us, row.ci_high_us), origin)
