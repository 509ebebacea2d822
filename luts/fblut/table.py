"""Lut: measured latency per operator, with what it was measured on and how."""

import functools
import math
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Annotated, Literal

import pydantic

from fbbase.errors import FbError
from fblut.errors import LutError
from fblut.interpolate import Interpolation
from fbspace.architecture import load_space_of
from fbspace.blocks import is_identity
from fbspace.opspec import OpSpec

Status = Literal["ok", "failed", "fixed"]
"""`failed` keeps its row with the reason in `notes`, and no latency. `fixed` has no latency of its own either: its time
is part of the table's `network_us`, which every network costs."""

INTERPOLATED = "interpolated"
"""What the notes of a row say that no measurement is behind."""

Origin = Literal["measured", "fitted", "imported"]
"""Where a table's latencies come from: operators timed by fbprof measure, a regression on whole networks (fbprof fit),
or a file that others published (fbprof import)."""

At = Literal["peak", "mean", "sustained-so-far"]
"""At which of the speeds that a device had while it was measured a table's times stand."""

SMALLEST_US = 0.001
"""The last decimal of a table; it knows no latency of 0."""

LARGEST_US = 1e10
"""No operator or network takes longer: it is hours."""

LARGEST_PERCENT = 1e4
"""An error that is larger is told as this: nothing is known then."""

NORMAL_95 = 1.96
"""Standard deviations from the middle to either end of a 95 % interval."""


class Metadata(pydantic.BaseModel):
    """What a table was measured on and how; one header line each. Tools may add fields, and they are kept.

    `device` is the profile's name, `device_model` what its maker calls it. `runtime_options` are those that a runtime
    was run with, such as ncnn's `use_fp16_storage=0 …`. `cores` names the cores the agent was bound to, or "any".
    `timing` says in words in which context an operator was timed, because the same operator is 20–30 % faster or
    slower by what ran just before it; `runs` and `dropped` are its numbers. `drift_range_percent` is how far the
    device's speed wandered in the run, corrected for over `drift_window_visits` visits (0: it was not).

    `network_us` is what every network costs beside its operators. `calibration_networks` whole networks were measured
    to put the rows into the context of a network (0: rows are operators timed alone), and `network_error_percent` is
    the root mean square error of the sum for networks that the calibration has not seen, without the rows' own noise.

    The times stand `at` one of the run's speeds. `reference_us` is what the reference workload, the same in every
    measurement, took at that speed (the geometric mean of its large blocks'), known within ±`reference_error_percent`,
    `small_reference_us` what its small ones took: by them tables of one device are brought to one speed.
    `speed_error_percent` is by how much the device's speed may be another in another run like this, as far as this one
    tells; all rows have it in common.

    `grid_points` says that the rows are a grid over widths and sizes, of so many points on every axis: operators in
    between are interpolated (`fblut.interpolate`).
    """

    model_config = pydantic.ConfigDict(extra="allow", frozen=True)

    space: str
    device: str
    runtime: str
    runtime_version: str
    precision: str
    threads: Annotated[int, pydantic.Field(ge=1)]
    origin: Origin = "measured"
    runtime_options: str | None = None
    cores: str = "any"
    device_model: str | None = None
    soc: str = "unknown"
    system: str = "unknown"
    timing: str = "unknown"
    runs: Annotated[int, pydantic.Field(ge=1)] | None = None
    dropped: Annotated[int, pydantic.Field(ge=0)] | None = None
    seed: int | None = None
    rounds: int | None = None
    agent: str = "unknown"
    tool_version: str = "unknown"
    measured_at: str = "unknown"
    conditions: str = "unknown"
    drift_window_visits: int = 0
    drift_range_percent: float | None = None
    at: At = "mean"
    reference_us: Annotated[float, pydantic.Field(ge=SMALLEST_US, le=LARGEST_US)] | None = None
    reference_error_percent: Annotated[float, pydantic.Field(ge=0, le=LARGEST_PERCENT)] | None = None
    small_reference_us: Annotated[float, pydantic.Field(ge=SMALLEST_US, le=LARGEST_US)] | None = None
    small_reference_error_percent: Annotated[float, pydantic.Field(ge=0, le=LARGEST_PERCENT)] | None = None
    speed_error_percent: Annotated[float, pydantic.Field(ge=0, le=LARGEST_PERCENT)] | None = None
    network_us: Annotated[float, pydantic.Field(ge=-LARGEST_US, le=LARGEST_US)] = 0.0
    calibration_networks: Annotated[int, pydantic.Field(ge=0)] = 0
    network_error_percent: Annotated[float, pydantic.Field(ge=0, le=LARGEST_PERCENT)] | None = None
    grid_points: Annotated[int, pydantic.Field(ge=2)] | None = None
    verdict: Literal["good", "usable", "do not use"] | None = None
    warnings: tuple[str, ...] = ()

    def stated(self) -> dict[str, object]:
        """Return the known fields, without the warnings."""
        return {k: v for k, v in self.model_dump(exclude={"warnings"}).items() if v not in (None, "unknown", (), "")}


@dataclass(frozen=True, slots=True)
class Row:
    """One operator: its latency within a network, and the same operator timed alone, each with its 95 % interval.

    `spread_us` is the interquartile range of the samples of the operator alone, `samples` their number, `preempted`
    how many more were left out because other work ran in between. All times in microseconds. A failed operator has
    no numbers, and the reason in `notes`; too few rounds leave the intervals empty. In a table without calibration
    the latency is that of the operator alone.
    """

    spec: OpSpec
    latency_us: float | None
    ci_low_us: float | None = None
    ci_high_us: float | None = None
    spread_us: float | None = None
    samples: int = 0
    preempted: int = 0
    isolated_us: float | None = None
    isolated_low_us: float | None = None
    isolated_high_us: float | None = None
    status: Status = "ok"
    notes: str = ""


@dataclass(frozen=True, slots=True)
class Prediction:
    """A network's predicted latency in microseconds and its 95 % interval; None where the rows have none."""

    latency_us: float
    ci_low_us: float | None
    ci_high_us: float | None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Both ends of the interval."""
        return None if self.ci_low_us is None or self.ci_high_us is None else (self.ci_low_us, self.ci_high_us)

    def slowed(self, factor: float) -> "Prediction":
        """Return the prediction with its times multiplied: that of the device at another speed."""
        low, high = (None if end is None else end * factor for end in (self.ci_low_us, self.ci_high_us))
        return Prediction(self.latency_us * factor, low, high)


@dataclass(frozen=True)
class Lut:
    """A latency table: rows by operator key, in the order they were measured or read."""

    metadata: Metadata
    rows: dict[str, Row]

    @functools.cached_property
    def _between(self) -> Callable[[OpSpec], Row | None]:
        measured = {row.spec: row for row in self.rows.values() if row.latency_us is not None}
        interpolation = Interpolation(measured)

        @functools.lru_cache(maxsize=4096)
        def row_between(spec: OpSpec) -> Row | None:
            parts = interpolation.parts(spec)
            return None if parts is None else _interpolated(spec, [(measured[part], w) for part, w in parts])

        return row_between

    def row(self, spec: OpSpec) -> Row | None:
        """Return the row of an operator; in a table of a grid, one interpolated between rows where it has none.

        An identity, which no table holds, has a row of zeros.
        """
        if is_identity(spec):
            return Row(spec, 0.0, 0.0, 0.0)
        row = self.rows.get(spec.key())
        if row is not None or self.metadata.grid_points is None:
            return row
        return self._between(spec)

    def latency_us(self, spec: OpSpec) -> float:
        """Return what an operator adds to a network, 0 for an identity. Raises LutError where it is not known."""
        row = self.row(spec)
        if row is None:
            raise LutError(f"the table has no row for operator {spec.key()}")
        if row.status == "fixed":
            return 0.0
        if row.latency_us is None:
            raise LutError(f"operator {spec.key()} was not measured: {row.notes}")
        return row.latency_us

    def predict_us(self, specs: Iterable[OpSpec]) -> float:
        """Return the fixed cost and the sum of the rows of a network's operators (FBNet, equation 2)."""
        return self.metadata.network_us + sum(self.latency_us(spec) for spec in specs)

    def predict(
        self, specs: Iterable[OpSpec], at_this_speed: bool = False, beside: Sequence[Prediction] = ()
    ) -> Prediction:
        """Return the sum with its 95 % interval, propagated.

        Variances add: of the rows (an operator that occurs k times is wrong by k times its error), of what a sum
        cannot say about a network (`network_error_percent`), and of the device's speed (`speed_error_percent`), which
        counts unless the device is known to be at the table's speed. Where one of the latter is not known, the interval
        does not cover it. `beside` are operators without a row, estimated by one regression: they are wrong together,
        so that their intervals add up before they count as one.
        """
        counts = Counter(specs)
        latency_us = self.predict_us(counts.elements()) + sum(each.latency_us for each in beside)
        above_us = sum((each.ci_high_us or each.latency_us) - each.latency_us for each in beside)
        variance = (above_us / NORMAL_95) ** 2
        variance += (latency_us * (self.metadata.network_error_percent or 0.0) / 100) ** 2
        if not at_this_speed:
            variance += (latency_us * (self.metadata.speed_error_percent or 0.0) / 100 / NORMAL_95) ** 2
        for spec, count in counts.items():
            row = self.row(spec)
            assert row is not None  # its latency has just been read
            if row.status == "fixed":
                continue
            if row.ci_low_us is None or row.ci_high_us is None:
                return Prediction(latency_us, None, None)
            variance += (count * (row.ci_high_us - row.ci_low_us) / (2 * NORMAL_95)) ** 2
        half = NORMAL_95 * math.sqrt(variance)
        return Prediction(latency_us, max(latency_us - half, 0.0), latency_us + half)

    def slowed(self, factor: float, alone: Callable[[OpSpec], float] | None = None) -> "Lut":
        """Return the table with all its times multiplied: that of the device at another speed.

        `alone` gives the factor of an operator that was timed alone, where that is another one.
        """
        if factor == 1 and alone is None:
            return self
        times = [field.name for field in fields(Row) if field.name.endswith("_us")]
        in_context = ("latency_us", "ci_low_us", "ci_high_us") if self.metadata.calibration_networks else ()

        def times_slower(row: Row) -> Row:
            own = factor if alone is None else alone(row.spec)
            known = {name: value for name in times if (value := getattr(row, name)) is not None}
            return replace(row, **{k: value * (factor if k in in_context else own) for k, value in known.items()})

        update = {"network_us": round(self.metadata.network_us * factor, 3)}
        for name in ("reference_us", "small_reference_us"):
            us = getattr(self.metadata, name)
            if us is not None:
                update[name] = max(round(us * factor, 3), SMALLEST_US)
        rows = {key: times_slower(row) for key, row in self.rows.items()}
        return Lut(self.metadata.model_copy(update=update), rows)

    def missing(self, specs: Iterable[OpSpec]) -> list[OpSpec]:
        """Return the operators whose cost is not known here, each once, in the order given."""
        rows = {spec: self.row(spec) for spec in specs}
        return [spec for spec, row in rows.items() if row is None or (row.latency_us is None and row.status != "fixed")]

    def require(self, specs: Iterable[OpSpec], what: str) -> None:
        """Raise LutError that lists every operator of `what` the table lacks."""
        missing = self.missing(specs)
        if missing:
            rows = [(spec.key(), self.rows.get(spec.key())) for spec in missing]
            keys = "\n".join(f"  {key}" + (f" (failed: {row.notes})" if row else "") for key, row in rows)
            raise LutError(
                f"the table (device {self.metadata.device}, space {self.metadata.space}) lacks {len(missing)} "
                f"operator{'s' * (len(missing) != 1)} of {what}:\n{keys}\n"
                f"Remedy: {measure_again(self.metadata, missing)}"
            )


def measure_again(metadata: Metadata, missing: Iterable[OpSpec] = ()) -> str:
    """Say how a table gets what it lacks; operators that are not of its space are got with another one."""
    if metadata.origin == "fitted":
        return "fit networks that have it"
    if metadata.origin == "imported":
        return "complete the file it was imported from, or measure a table of your own"
    elsewhere = not _may_have(metadata.space, missing)
    names = ("space", "device", "runtime", "precision", "threads")
    options = {name: str(getattr(metadata, name)) for name in names}
    options |= {"space": "SPACE"} if elsewhere else {}
    options |= {"device": "DEVICE"} if is_published(metadata) else {}
    words = [part for name, value in options.items() for part in (f"--{name}", value)]
    command = shlex.join(["fbprof", "measure", *words])
    if elsewhere:
        return f"not all are of space {metadata.space}: measure the space, or the network, that they are of: {command}"
    return f"{'measure a device of your own' if is_published(metadata) else 'measure again'}: {command}"


def is_published(metadata: Metadata) -> bool:
    """Whether a table is of others, whose device this machine may have no profile of."""
    return bool(metadata.stated().get("source"))


def _may_have(space: str, missing: Iterable[OpSpec]) -> bool:
    """Whether a space has operators that are missing; so too where it is not known."""
    try:
        return not set(missing) - set(load_space_of(space).operators())
    except FbError:
        return True


def _interpolated(spec: OpSpec, parts: Sequence[tuple[Row, float]]) -> Row:
    """Return the row of an operator between measured ones, by their weights, with an interval as wide as theirs."""

    def total(name: str) -> float | None:
        values = [getattr(row, name) for row, _ in parts]
        return None if None in values else sum(v * w for v, (_, w) in zip(values, parts, strict=True))

    return Row(
        spec,
        total("latency_us"),
        total("ci_low_us"),
        total("ci_high_us"),
        samples=min(row.samples for row, _ in parts),
        isolated_us=total("isolated_us"),
        isolated_low_us=total("isolated_low_us"),
        isolated_high_us=total("isolated_high_us"),
        notes=INTERPOLATED,
    )
