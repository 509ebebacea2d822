"""Lut: measured latency per operator, with what it was measured on and how."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Literal

import pydantic

from fblut.errors import LutError
from fbspace.opspec import OpSpec

Status = Literal["ok", "failed"]
"""`failed` keeps its row with the reason in `notes`, and no latency."""


class Metadata(pydantic.BaseModel):
    """What a table was measured on and how; one header line each. Tools may add fields, and they are kept.

    `cores` names the cores the agent was bound to, or "any". `timing` says in words in which context an operator was
    timed, because the same operator is 20–30 % faster or slower by what ran just before it. `drift_range_percent` is
    how far the device's speed wandered in the run, corrected for over `drift_window_visits` visits (0: it was not).
    """

    model_config = pydantic.ConfigDict(extra="allow", frozen=True)

    space: str
    device: str
    runtime: str
    runtime_version: str
    precision: str
    threads: Annotated[int, pydantic.Field(ge=1)]
    cores: str = "any"
    soc: str = "unknown"
    system: str = "unknown"
    timing: str = "unknown"
    seed: int | None = None
    rounds: int | None = None
    agent: str = "unknown"
    tool_version: str = "unknown"
    measured_at: str = "unknown"
    conditions: str = "unknown"
    drift_window_visits: int = 0
    drift_range_percent: float | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One operator: median latency, its 95 % interval, the interquartile range of the samples and their number.

    All in microseconds. A failed operator has no numbers, and the reason in `notes`. Too few rounds leave the interval
    empty.
    """

    spec: OpSpec
    latency_us: float | None
    ci_low_us: float | None = None
    ci_high_us: float | None = None
    spread_us: float | None = None
    samples: int = 0
    status: Status = "ok"
    notes: str = ""


@dataclass(frozen=True, slots=True)
class Lut:
    """A latency table: rows by operator key, in the order they were measured or read."""

    metadata: Metadata
    rows: dict[str, Row]

    def latency_us(self, spec: OpSpec) -> float:
        """Return the latency of an operator; an identity costs nothing. Raises LutError where there is none."""
        if spec.is_identity:
            return 0.0
        row = self.rows.get(spec.key())
        if row is None:
            raise LutError(f"the table has no row for operator {spec.key()}")
        if row.latency_us is None:
            raise LutError(f"operator {spec.key()} was not measured: {row.notes}")
        return row.latency_us

    def predict_us(self, specs: Iterable[OpSpec]) -> float:
        """Return the sum of the rows of a network's operators (FBNet, equation 2)."""
        return sum(self.latency_us(spec) for spec in specs)

    def missing(self, specs: Iterable[OpSpec]) -> list[OpSpec]:
        """Return the operators that have no latency here, each once, in the order given."""
        return [
            spec
            for spec in dict.fromkeys(specs)
            if not spec.is_identity and (spec.key() not in self.rows or self.rows[spec.key()].latency_us is None)
        ]

    def require(self, specs: Iterable[OpSpec], what: str) -> None:
        """Raise LutError that lists every operator of `what` the table lacks."""
        missing = self.missing(specs)
        if missing:
            keys = "\n".join(f"  {spec.key()}{self._reason(spec)}" for spec in missing)
            raise LutError(
                f"the table (device {self.metadata.device}, space {self.metadata.space}) lacks {len(missing)} "
                f"operator{'s' * (len(missing) != 1)} of {what}:\n{keys}\n"
                f"Measure again: fbprof measure --space {self.metadata.space} --device {self.metadata.device}"
            )

    def _reason(self, spec: OpSpec) -> str:
        row = self.rows.get(spec.key())
        return f" (failed: {row.notes})" if row else ""
