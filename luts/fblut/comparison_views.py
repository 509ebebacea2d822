"""How a comparison is shown: its sections for people, its values for programs."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from fblut.compare import Comparison, Group, Interval, OperatorRatio
from fblut.views import Section

MOST_REVERSALS = 10


def headline(result: Comparison) -> str:
    """Return a comparison in a line."""
    ends = result.mean.interval
    interval = f" ({ends[0]:.3f} to {ends[1]:.3f})" if ends else ""
    correlation = "not defined" if result.spearman is None else f"{result.spearman:.3f}"
    known = [o.is_significant for o in result.operators if o.is_significant is not None]
    significant = f", {sum(known)} of them differ by more than their intervals" if known else ""
    return (
        f"{len(result.operators)} operators in both{significant}; geometric mean of the ratios "
        f"{result.mean.ratio:.3f}{interval}, rank correlation {correlation}"
    )


def sections_of(
    result: Comparison, names: tuple[str, str], shown: Sequence[OperatorRatio], title: str
) -> list[Section]:
    """Return a comparison's sections: in short, operators, groups, reversals, networks."""
    sections = [_in_short(result, names), _operators(shown, title), _groups(result.groups)]
    if result.pairs:
        sections.append(_reversals(result, names))
    if result.networks:
        rows = [
            (n.name, n.first_us / 1e3, n.second_us / 1e3, n.ratio, n.first_rank, n.second_rank) for n in result.networks
        ]
        columns = ("network", "first ms", "second ms", "ratio", "place in first", "in second")
        sections.append(Section("networks", (), columns, tuple(rows)))
    return sections


def as_dict(result: Comparison) -> dict[str, Any]:
    """Return everything, for JSON."""
    return {
        "geometric_mean": result.mean.ratio,
        "geometric_mean_interval": result.mean.interval,
        "spearman": result.spearman,
        "speed": None if result.speed is None else asdict(result.speed),
        "differences": result.differences,
        "operators": [
            _fields(o, "key", "first_us", "second_us", "ratio")
            | {"ratio_interval": o.interval, "significant": o.is_significant}
            for o in result.operators
        ],
        "pairs": result.pairs,
        "reversals": [
            {"a": r.a.key, "b": r.b.key, "strength": r.strength, "significant": r.is_significant}
            for r in result.reversals
        ],
        "groups": [
            _fields(g, "what", "value", "reversals")
            | {
                "operators": g.relative.operators,
                "relative": g.relative.ratio,
                "relative_interval": g.relative.interval,
            }
            for g in result.groups
        ],
        "networks": [asdict(n) | {"ratio": n.ratio} for n in result.networks],
        "only_first": result.only_first,
        "only_second": result.only_second,
    }


def _fields(value: object, *names: str) -> dict[str, Any]:
    return {name: getattr(value, name) for name in names}


def _in_short(result: Comparison, names: tuple[str, str]) -> Section:
    first, second = names
    lines = [headline(result)]
    if result.speed is not None:
        lines.append(
            f"speed: the reference workload took {result.speed} for {second} against {first}; "
            "that factor, how fast the device was in each run, is taken out of what follows"
        )
    for name, values in result.differences.items():
        lines.append(f"{name} differs: {' | '.join('not told' if it is None else str(it) for it in values)}")
    for which, keys in (("first", result.only_first), ("second", result.only_second)):
        if keys:
            more = f" and {len(keys) - 5} more" if len(keys) > 5 else ""
            lines.append(f"only in the {which} table: {', '.join(keys[:5])}{more}")
    return Section(f"ratio = {second} over {first}", tuple(lines))


def _operators(shown: Sequence[OperatorRatio], title: str) -> Section:
    rows = [(o.key, o.first_us, o.second_us, o.ratio, _significance(o)) for o in shown]
    columns = ("operator", "first µs", "second µs", "ratio", "95 % interval")
    return Section(title, (), columns, tuple(rows), {"first µs": 1, "second µs": 1})


def _groups(groups: Sequence[Group]) -> Section:
    rows = [
        (g.what, g.value, g.relative.operators, g.relative.ratio, _interval(g.relative.interval), g.reversals)
        for g in groups
    ]
    columns = ("by", "value", "operators", "ratio to the mean", "95 % interval", "reversals")
    text = ("above one: slower on the second device than its other operators are, against the first",)
    return Section("what is cheap on one and expensive on the other", text, columns, tuple(rows))


def _reversals(result: Comparison, names: tuple[str, str]) -> Section:
    shown = [r for r in result.reversals if r.is_significant is not False][:MOST_REVERSALS]
    rows = [(r.a.key, r.b.key, r.b.first_us / r.a.first_us, r.a.second_us / r.b.second_us) for r in shown]
    share = 100 * len(result.reversals) / result.pairs
    text = (
        f"{len(result.reversals)} of {result.pairs} pairs of operators with the same shapes in and out ({share:.0f} %) "
        f"change places, {sum(r.is_significant is True for r in result.reversals)} by more than their intervals",
    )
    columns = ("A, faster in the first", "B, faster in the second", "B/A in the first", "A/B in the second")
    return Section("rank reversals", text, columns if rows else (), tuple(rows))


def _significance(operator: OperatorRatio) -> str:
    if operator.interval is None:
        return "not known"
    return "not significant" if not operator.is_significant else _interval(operator.interval)


def _interval(interval: Interval | None) -> str:
    return "not known" if interval is None else f"{interval[0]:.2f} to {interval[1]:.2f}"
