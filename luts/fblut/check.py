"""Auditing tables: every rule a table that can be read may still break, each a small function listed in RULES."""

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from operator import attrgetter
from pathlib import Path
from typing import Literal

from fbbase.errors import FbError
from fblut.speed import at_one_speed
from fblut.table import Lut, Metadata, Row, measure_again
from fbspace.architecture import load_space_of
from fbspace.space import Space

FASTER = 0.05
"""Without intervals, a larger operator counts as faster than a smaller one beyond this share of the latency."""
WIDE = 0.05
"""Half of a 95 % interval over this share of the latency is wide."""
NOISY = 0.20
"""An interquartile range over this share of the latency is noise, or two speeds of the machine."""
DISAGREE = 0.10
"""Tables of the same conditions disagree where the slower latency exceeds the faster by more than this share of it."""

CONDITIONS = ("device", "device_model", "runtime", "precision", "threads")
"""Metadata that must be equal, where known, before two latencies of one operator are held against each other."""
MIXED = ("space", "runtime", "precision", "threads")
"""Metadata that should be the same in tables that are used together; several devices are what one compares."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing wrong with a table; `operators` are the keys concerned, `message` ends with what to do about it."""

    severity: Literal["error", "warning"]
    rule: str
    operators: tuple[str, ...]
    message: str


def _warning(rule: str, operators: tuple[str, ...], message: str) -> Finding:
    return Finding("warning", rule, operators, message)


Rule = Callable[[Lut, Space | None], Iterator[Finding]]


def check(lut: Lut, space: Space | None) -> list[Finding]:
    """Return what is wrong with a table, in the order of RULES; `space` is None where the table's is not known."""
    return [finding for rule in RULES for finding in rule(lut, space)]


def check_tables(luts: Mapping[str, Lut]) -> list[Finding]:
    """Return what is wrong among several tables, given by name: mixed conditions, one operator with two latencies."""
    return [*_mixed(luts), *_disagreeing(luts)]


def _failed(lut: Lut, space: Space | None) -> Iterator[Finding]:
    for key, row in lut.rows.items():
        if row.status == "failed":
            reason = row.notes or "without a reason"
            yield Finding("error", "failed", (key,), f"{key}: failed: {reason}; {measure_again(lut.metadata)}")


def _missing(lut: Lut, space: Space | None) -> Iterator[Finding]:
    if space is None:
        yield _warning(
            "unknown-space",
            (),
            f"space {lut.metadata.space!r} cannot be loaded here, so missing operators were not looked for; "
            "check the table where its space is known (fbsearch spaces lists those known here)",
        )
        return
    for spec in space.operators():
        if lut.row(spec) is None:
            yield Finding("error", "missing", (spec.key(),), f"{spec.key()}: no row; {measure_again(lut.metadata)}")


def _order(field: Literal["kernel", "expansion"], lut: Lut, space: Space | None) -> Iterator[Finding]:
    """Of operators that are equal in all but `field`, every larger one that is faster than a smaller one."""
    families: dict[object, list[tuple[Row, float]]] = {}
    for row, latency_us in _measured(lut):
        family = replace(row.spec, kernel=1) if field == "kernel" else replace(row.spec, expansion=1)
        families.setdefault(family, []).append((row, latency_us))
    for members in families.values():
        members.sort(key=lambda member: float(getattr(member[0].spec, field)))
        for (small, small_us), (large, large_us) in combinations(members, 2):
            overlap = _overlap(small, large)
            if large_us < small_us * (1 - FASTER if overlap is None else 1) and not overlap:
                low, high = getattr(small.spec, field), getattr(large.spec, field)
                yield _warning(
                    f"{field}-order",
                    (small.spec.key(), large.spec.key()),
                    f"{large.spec.key()}: {large_us:.1f} µs with {field} {high:g}, but {small_us:.1f} µs with {low:g}; "
                    "measure again with nothing else running, and distrust the table if it stays so",
                )


def _wide(lut: Lut, space: Space | None) -> Iterator[Finding]:
    is_fitted = lut.metadata.origin == "fitted"
    remedy = "fit more networks" if is_fitted else "measure with more --rounds, or close other programs"
    for row, latency_us in _measured(lut):
        if (interval := _interval(row)) and (half := (interval[1] - interval[0]) / 2) > WIDE * latency_us:
            yield _warning(
                "wide-interval",
                (row.spec.key(),),
                f"{row.spec.key()}: 95 % interval of ±{100 * half / latency_us:.1f} % around {latency_us:.1f} µs; "
                f"{remedy}",
            )


def _no_interval(lut: Lut, space: Space | None) -> Iterator[Finding]:
    keys = tuple(row.spec.key() for row, _ in _measured(lut) if not _interval(row))
    if keys:
        is_imported = lut.metadata.origin == "imported"
        remedy = "validate it on the device (fbprof validate)" if is_imported else "measure with more --rounds"
        yield _warning(
            "no-interval",
            keys,
            f"{len(keys)} of {len(lut.rows)} rows have no interval, so nothing says how far to trust them; {remedy}",
        )


def _noisy(lut: Lut, space: Space | None) -> Iterator[Finding]:
    for row, latency_us in _measured(lut):
        if row.spread_us is not None and row.spread_us > NOISY * latency_us:
            yield _warning(
                "noisy",
                (row.spec.key(),),
                f"{row.spec.key()}: half of the samples spread over {100 * row.spread_us / latency_us:.0f} % of "
                f"{latency_us:.1f} µs, a noisy machine or one with two speeds; "
                "close other programs, let it cool, bind it with --cores",
            )


def _crowded(lut: Lut, space: Space | None) -> Iterator[Finding]:
    """More threads than cores, which fbprof measure took until it refused them."""
    cores = lut.metadata.cores.split(",")
    if all(core.isdigit() for core in cores) and lut.metadata.threads > len(cores):
        yield Finding(
            "error",
            "crowded",
            (),
            f"{lut.metadata.threads} threads were bound to cores {lut.metadata.cores} and waited for one another; "
            "measure again with --cores that are as many as --threads",
        )


def _negative(lut: Lut, space: Space | None) -> Iterator[Finding]:
    latencies_us = [row.latency_us for row in lut.rows.values() if row.latency_us is not None]
    if lut.metadata.network_us + sum(latencies_us) <= 0 and lut.metadata.network_us < 0:
        yield Finding(
            "error",
            "negative",
            (),
            f"every network costs {lut.metadata.network_us:.1f} µs beside its operators, so it would take less than no "
            f"time; {measure_again(lut.metadata)}",
        )


_ORDERS = (functools.partial(_order, "kernel"), functools.partial(_order, "expansion"))
RULES: tuple[Rule, ...] = (
    _failed, _missing, _negative, _crowded, *_ORDERS, _wide, _no_interval, _noisy,
)  # fmt: skip
"""Every rule for one table, worst first."""


def _mixed(luts: Mapping[str, Lut]) -> Iterator[Finding]:
    for field in MIXED:
        value_of = space_name if field == "space" else attrgetter(field)
        values = {name: value_of(lut.metadata) for name, lut in luts.items()}
        if len(set(values.values())) > 1:
            listed = ", ".join(f"{value} ({name})" for name, value in values.items())
            yield _warning(f"mixed-{field}", (), f"{field} differs: {listed}; do not use their rows in one search")


def _disagreeing(luts: Mapping[str, Lut]) -> Iterator[Finding]:
    for (first, a), (second, b) in combinations(luts.items(), 2):
        values = [(getattr(a.metadata, field), getattr(b.metadata, field)) for field in CONDITIONS]
        if any(one != other and None not in (one, other) for one, other in values):
            continue
        b, speed = at_one_speed(a, b)
        others = {row.spec: (row, latency_us) for row, latency_us in _measured(b)}
        for row, latency_us in _measured(a):
            if row.spec not in others:
                continue
            other, other_us = others[row.spec]
            low, high = sorted((latency_us, other_us))
            if high > low * (1 + DISAGREE) and not _overlap(row, other):
                key = row.spec.key()
                yield _warning(
                    "disagreeing",
                    (key,),
                    f"{key}: {latency_us:.1f} µs in {first}, {other_us:.1f} µs in {second}"
                    f"{' at the same speed' if speed else ''}; "
                    "measure both again with nothing else running",
                )


def _measured(lut: Lut) -> Iterator[tuple[Row, float]]:
    """Return rows with what was timed: the operator alone where the table has that, else its latency."""
    for row in lut.rows.values():
        latency_us = row.latency_us if row.isolated_us is None else row.isolated_us
        if latency_us is not None:
            yield row, latency_us


def space_name(metadata: Metadata) -> str:
    """Return the name of a table's space; that of a .toml file is the same wherever the file lies."""
    return Path(metadata.space).stem if metadata.space.endswith(".toml") else metadata.space


def known_space(metadata: Metadata) -> Space | None:
    """Return a table's space; None where it is not known here: the table may come from a machine with other spaces."""
    try:
        return load_space_of(metadata.space)
    except FbError:
        return None


def half_width_percent(row: Row) -> float | None:
    """Return half of the 95 % interval of an operator timed alone in percent of its latency, None where not known."""
    if row.isolated_us is None or row.isolated_low_us is None or row.isolated_high_us is None:
        return None
    return 50 * (row.isolated_high_us - row.isolated_low_us) / row.isolated_us


def _interval(row: Row) -> tuple[float, float] | None:
    """Return the interval of what was timed, None where there is none."""
    alone = row.isolated_us is not None
    low, high = (row.isolated_low_us, row.isolated_high_us) if alone else (row.ci_low_us, row.ci_high_us)
    return None if low is None or high is None else (low, high)


def _overlap(a: Row, b: Row) -> bool | None:
    """Whether the 95 % intervals overlap; None where one is missing."""
    first, second = _interval(a), _interval(b)
    return None if not first or not second else first[0] <= second[1] and second[0] <= first[1]
