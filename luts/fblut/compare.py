"""Comparing tables of one space: ratios with their intervals, and what is cheap on one device and not on the other.

Tables of one device are compared at one speed, and the factor between their speeds is told apart.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from fblut.check import space_name
from fblut.errors import LutError
from fblut.speed import Speed, at_one_speed
from fblut.statistics import spearman, student_quantile
from fblut.table import Lut, Prediction, Row
from fbspace.blocks import BLOCKS, block_class, parameters_of
from fbspace.opspec import OpSpec
from fbspace.space import Space

CONDITIONS = (
    "device", "device_model", "soc", "system", "runtime", "runtime_version", "precision", "threads", "cores", "timing",
    "at", "grid_points", "calibration_networks", "verdict",
)  # fmt: skip
"""Metadata that decide what a latency means; a comparison says where they differ."""

Interval = tuple[float, float]

WIDEST = 100.0
"""An error of a row or a network, as a share of it, counts as no more: nothing is known of it then."""


@dataclass(frozen=True, slots=True)
class OperatorRatio:
    """One operator in both tables; `interval` is the 95 % one of the ratio, None where a row has none."""

    spec: OpSpec
    first_us: float
    second_us: float
    interval: Interval | None = None

    @property
    def key(self) -> str:
        """Key of the operator."""
        return self.spec.key()

    @property
    def ratio(self) -> float:
        """Second latency over first."""
        return self.second_us / self.first_us

    @property
    def is_significant(self) -> bool | None:
        """Whether the latencies differ by more than their intervals; None where it is not known."""
        return None if self.interval is None else not self.interval[0] <= 1 <= self.interval[1]


@dataclass(frozen=True, slots=True)
class Mean:
    """A geometric mean of ratios and its 95 % interval over operators (Student's, of the logarithms); None for one."""

    ratio: float
    interval: Interval | None
    operators: int


@dataclass(frozen=True, slots=True)
class Reversal:
    """Two operators that can stand in each other's place, of which the first table has `a` faster, the second `b`.

    `strength` is the smaller of the two margins: by so much at least each table says the opposite of the other.
    """

    a: OperatorRatio
    b: OperatorRatio
    is_significant: bool | None

    @property
    def strength(self) -> float:
        """Smaller of the margins, as a share of the faster latency."""
        return min(self.b.first_us / self.a.first_us, self.a.second_us / self.b.second_us) - 1


@dataclass(frozen=True, slots=True)
class Group:
    """Operators that are alike in one thing, e.g. kernel 5.

    `relative` is their mean ratio over that of all: above one, they are relatively slow on the second device.
    `reversals` counts those that one of them is part of.
    """

    what: str
    value: str
    relative: Mean
    reversals: int


@dataclass(frozen=True, slots=True)
class NetworkRatio:
    """A network by both tables, in microseconds, and its place among the networks, 1 the fastest.

    `error` is half of the 95 % interval of the ratio's logarithm; None where a table has no intervals.
    """

    name: str
    first_us: float
    second_us: float
    first_rank: int
    second_rank: int
    error: float | None = None

    @property
    def ratio(self) -> float:
        """Second latency over first."""
        return self.second_us / self.first_us


@dataclass(frozen=True, slots=True)
class Comparison:
    """What two tables have in common and where they differ.

    `mean` is the geometric mean of all ratios, `spearman` the rank correlation of the latencies (None below 3
    operators), `differences` maps a metadata field to both values, `only_first` and `only_second` are keys without a
    partner. `pairs` counts the pairs of operators that can stand in each other's place. All times of the second table
    are at the speed of the first where `speed` says how they differed.
    """

    speed: Speed | None
    operators: tuple[OperatorRatio, ...]
    mean: Mean
    spearman: float | None
    reversals: tuple[Reversal, ...]
    pairs: int
    groups: tuple[Group, ...]
    networks: tuple[NetworkRatio, ...]
    differences: dict[str, tuple[object, object]]
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]

    def most_different(self, count: int) -> list[OperatorRatio]:
        """Return the operators whose ratio is farthest from the geometric mean, in either direction."""
        return sorted(self.operators, key=lambda o: -abs(math.log(o.ratio / self.mean.ratio)))[:count]


def compare(
    first: Lut, second: Lut, space: Space | None = None, networks: Mapping[str, Sequence[OpSpec]] | None = None
) -> Comparison:
    """Compare two tables; with their space operators are grouped by stage too, `networks` are operators by name.

    Networks with operators that one of the tables lacks, or that take no time by one, are left out. Raises LutError
    for tables of different spaces or without a common operator.
    """
    if space_name(first.metadata) != space_name(second.metadata):
        raise LutError(
            f"the tables are of different spaces, {first.metadata.space!r} and {second.metadata.space!r}: "
            "their operators are not the same"
        )
    second, speed = at_one_speed(first, second)
    a, b = _measured(first), _measured(second)
    operators = tuple(_ratio(a[key], b[key], speed) for key in a if key in b)
    if not operators:
        raise LutError("the tables have no measured operator in common")
    mean = mean_of(operators)
    reversals, pairs = _reversals(operators, first, second)
    return Comparison(
        speed=speed,
        operators=operators,
        mean=mean,
        spearman=spearman([o.first_us for o in operators], [o.second_us for o in operators]),
        reversals=tuple(reversals),
        pairs=pairs,
        groups=tuple(_groups(operators, reversals, mean, space)),
        networks=tuple(_networks(first, second, networks or {})),
        differences={
            name: (left, right)
            for name in CONDITIONS
            if (left := getattr(first.metadata, name)) != (right := getattr(second.metadata, name))
        },
        only_first=tuple(key for key in a if key not in b),
        only_second=tuple(key for key in b if key not in a),
    )


def mean_of(operators: Sequence[OperatorRatio]) -> Mean:
    """Return the geometric mean of ratios, with the interval for operators like these."""
    logs = np.log([o.ratio for o in operators])
    middle, n = float(logs.mean()), len(logs)
    if n < 2:
        return Mean(math.exp(middle), None, n)
    half = student_quantile(n - 1, 0.975) * float(logs.std(ddof=1)) / math.sqrt(n)
    return Mean(math.exp(middle), (math.exp(middle - half), math.exp(middle + half)), n)


def _measured(lut: Lut) -> dict[str, Row]:
    return {key: row for key, row in lut.rows.items() if row.latency_us is not None}


def _ratio(first: Row, second: Row, speed: Speed | None) -> OperatorRatio:
    """Return a ratio; relative errors add up in squares, on the scale of logarithms."""
    assert first.latency_us is not None
    assert second.latency_us is not None
    ratio = second.latency_us / first.latency_us
    errors = [_relative_error(row) for row in (first, second)]
    errors += [] if speed is None else [None if speed.error_percent is None else speed.error_percent / 100]
    interval = None
    if None not in errors:
        half = math.hypot(*(error for error in errors if error is not None))
        interval = ratio * math.exp(-half), ratio * math.exp(half)
    return OperatorRatio(first.spec, first.latency_us, second.latency_us, interval)


def _relative_error(row: Row) -> float | None:
    """Return half of a row's 95 % interval as a share of its latency; None where it has none."""
    if row.ci_low_us is None or row.ci_high_us is None or row.latency_us is None:
        return None
    return min((row.ci_high_us - row.ci_low_us) / (2 * row.latency_us), WIDEST)


def _reversals(operators: Sequence[OperatorRatio], first: Lut, second: Lut) -> tuple[list[Reversal], int]:
    """Return the reversals, strongest first, and how many pairs there are of the same shapes in and out."""
    alike: dict[tuple[int, ...], list[OperatorRatio]] = {}
    for o in operators:
        place = o.spec.in_channels, o.spec.out_channels, o.spec.height, o.spec.width, o.spec.stride
        alike.setdefault(place, []).append(o)
    found, pairs = [], 0
    for members in alike.values():
        for one, other in combinations(members, 2):
            pairs += 1
            a, b = (one, other) if one.first_us < other.first_us else (other, one)
            if a.first_us < b.first_us and b.second_us < a.second_us:
                certain = [_is_faster(a, b, first), _is_faster(b, a, second)]
                found.append(Reversal(a, b, None if None in certain else all(certain)))
    return sorted(found, key=lambda r: -r.strength), pairs


def _is_faster(a: OperatorRatio, b: OperatorRatio, lut: Lut) -> bool | None:
    """Whether a table has operator a faster than b by more than their intervals."""
    high, low = lut.rows[a.key].ci_high_us, lut.rows[b.key].ci_low_us
    return None if high is None or low is None else high < low


def _groups(
    operators: Sequence[OperatorRatio], reversals: Sequence[Reversal], mean: Mean, space: Space | None
) -> Iterable[Group]:
    blocks = {kind: block_class(kind) for kind in {o.spec.kind for o in operators} if kind in BLOCKS}
    own = {o.spec: parameters_of(o.spec) if o.spec.kind in blocks else dict(o.spec.parameters) for o in operators}
    with_kernel = {spec for spec in own if spec.kind not in blocks or blocks[spec.kind].has_kernel}
    expanding = {spec for spec in own if spec.kind in blocks and blocks[spec.kind].expands}
    by: list[tuple[str, Mapping[OpSpec, str]]] = [
        ("kernel", {spec: str(spec.kernel) for spec in with_kernel}),
        ("expansion", {spec: f"{spec.expansion:g}" for spec in expanding}),
        ("stage", stages_of(space) if space else {}),
        ("size", {spec: f"{spec.height}x{spec.width}" for spec in own}),
    ]
    for name in sorted({name for parameters in own.values() for name in parameters}):
        values = {spec: str(parameters[name]) for spec, parameters in own.items() if name in parameters}
        if len(set(values.values())) > 1:  # a parameter that is the same everywhere tells nothing apart
            by.append((name, values))
    for what, told in by:
        members: dict[str, list[OperatorRatio]] = {}
        for o in operators:
            if o.spec in told:
                members.setdefault(told[o.spec], []).append(o)
        for value in sorted(members, key=_in_order):
            relative = mean_of([replace(o, second_us=o.second_us / mean.ratio) for o in members[value]])
            keys = {o.key for o in members[value]}
            yield Group(what, value, relative, sum(r.a.key in keys or r.b.key in keys for r in reversals))


def _in_order(value: str) -> tuple[float, str]:
    """Sort numbers by their value, whatever comes before or behind them."""
    number = value.split()[-1].split("x")[0]
    return (float(number) if number.replace(".", "", 1).isdigit() else -1.0), value


def stages_of(space: Space) -> dict[OpSpec, str]:
    """Return where each operator stands first: stem, stage 1 …, head."""
    found = {spec: "head" for head in space.heads.values() for spec in head}
    cursors = list(space.cursors().values())
    for number, layer in reversed(list(enumerate(space.layers, start=1))):
        for at in cursors:
            found |= dict.fromkeys(space.options(layer, at[number]), f"stage {layer.stage}")
    return found | dict.fromkeys(space.stem, "stem")


def _networks(first: Lut, second: Lut, networks: Mapping[str, Sequence[OpSpec]]) -> list[NetworkRatio]:
    known = {
        name: (first.predict(specs, at_this_speed=True), second.predict(specs, at_this_speed=True))
        for name, specs in networks.items()
        if not first.missing(specs) and not second.missing(specs)
    }
    known = {name: both for name, both in known.items() if min(each.latency_us for each in both) > 0}
    first_order = sorted(known, key=lambda name: known[name][0].latency_us)
    second_order = sorted(known, key=lambda name: known[name][1].latency_us)
    return [
        NetworkRatio(
            name,
            one.latency_us,
            other.latency_us,
            first_order.index(name) + 1,
            second_order.index(name) + 1,
            None if None in (halves := [_half(one), _half(other)]) else math.hypot(*filter(None, halves)),
        )
        for name, (one, other) in known.items()
    ]


def _half(prediction: Prediction) -> float | None:
    """Return half of a prediction's interval as a share of it; None where it has none."""
    ends = prediction.interval
    return None if ends is None else min((ends[1] - ends[0]) / (2 * prediction.latency_us), WIDEST)
