"""Summary: what fbprof measure prints of a plan and of a table, for people and as JSON."""

import statistics
from collections.abc import Sequence
from pathlib import Path

import click

from fblut.check import half_width_percent
from fblut.table import Lut
from fbprof.journal.conditions import device_words
from fbprof.journal.journal import journal_path, read_journal
from fbprof.plan.plan import Plan
from fbspace.architecture import is_network
from fbspace.network import count_spec
from fbspace.opspec import OpSpec

_SUMMED_UP = {"rounds", "drift_range_percent", "calibration_networks", "network_error_percent", "measured_at"}


def describe(specs: Sequence[OpSpec]) -> str:
    """Return a table of operators with their multiply-accumulates."""
    lines = [f"{'operator':58} {'MMACs':>8}"]
    lines += [f"{spec.key():58} {count_spec(spec).macs / 1e6:8.2f}" for spec in specs]
    return "\n".join(lines)


def plan_summary(plan: Plan, table: Path) -> dict[str, object]:
    """Return what would be measured, and how much of it a journal holds already, as JSON."""
    journal = read_journal(journal_path(table))
    return {
        "device": plan.device,
        "operators": [spec.key() for spec in plan.operators],
        "networks": [network.key for network in plan.networks],
        "min_rounds": plan.min_rounds,
        "rounds": plan.rounds,
        "visits": plan.min_rounds * len(plan.subjects),
        "visits_done": len(journal.visits) if journal else 0,
        "estimated_s": [round(end, 1) for end in plan.expected_s()],
        "table": str(table),
        "journal": str(journal_path(table)),
    }


def print_plan(plan: Plan, table: Path) -> None:
    """Print what would be measured, without the operators."""
    summary = plan_summary(plan, table)
    of = "" if plan.grid_points is None else f" (a grid of {plan.grid_points} points per axis)"
    click.echo(
        f"{len(plan.operators)} operators of space {plan.space}{of} and {len(plan.networks)} random networks on "
        f"{plan.device}, {plan.runtime}, {plan.precision}, {plan.threads} thread{'s' * (plan.threads != 1)}"
        f"\n{plan.min_rounds} rounds, then up to {plan.rounds} visits until within ±{plan.ci_percent:g} %, for at most "
        f"{plan.max_time_min:g} min; {plan.timing}; {summary['visits_done']} visits are already in the journal"
        f"\nestimated time: {_span(*plan.expected_s())}, a guess by the operators' sizes; a busy device takes longer"
        f"\nfiles: {table} (table), {journal_path(table)} (raw samples)"
    )


def _span(least_s: float, most_s: float) -> str:
    ends = [f"{end:.0f} s" if end < 100 else f"{end / 60:.0f} min" for end in (least_s, most_s)]
    return " to ".join(dict.fromkeys(ends))


def summary_of(lut: Lut, table: Path, journal: Path, ci_percent: float, seconds: float) -> dict[str, object]:
    """Return what a table came to, as JSON."""
    metadata = lut.metadata
    half_widths = [half for row in lut.rows.values() if (half := half_width_percent(row)) is not None]
    return {
        **metadata.model_dump(include={"device", "verdict", "warnings"}),
        "table": str(table),
        "journal": str(journal),
        "operators": len(lut.rows),
        "failed": {row.spec.key(): row.notes for row in lut.rows.values() if row.status == "failed"},
        "notes": {row.spec.key(): row.notes for row in lut.rows.values() if row.status == "ok" and row.notes},
        "seconds": seconds,
        "median_ci_half_width_percent": round(statistics.median(half_widths), 2) if half_widths else None,
        "wider_than_asked": sum(half > ci_percent for half in half_widths),
        **metadata.model_dump(include=_SUMMED_UP),
    }


def print_summary(lut: Lut, table: Path, journal: Path, ci_percent: float, seconds: float) -> None:
    """Print what a table came to."""
    summary, metadata = summary_of(lut, table, journal, ci_percent, seconds), lut.metadata
    failed = [row for row in lut.rows.values() if row.status == "failed"]
    width = summary["median_ci_half_width_percent"]
    wide = summary["wider_than_asked"]
    interval = f", median 95 % interval ±{width} %" if width is not None else ""
    wider = f" ({wide} wider than ±{ci_percent:g} %)" if wide else ""
    drift = f", drift of {metadata.drift_range_percent:.1f} % taken out" if metadata.drift_range_percent else ""
    where = device_words(metadata.device_model, metadata.soc)
    click.echo(
        f"{table}: {len(lut.rows) - len(failed)} of {len(lut.rows)} operators on {metadata.device} ({where}, "
        f"{metadata.runtime} {metadata.runtime_version}), {metadata.rounds} visits or more each"
        f"{interval}{wider}{drift}, {seconds} s"
    )
    if metadata.calibration_networks:
        click.echo(
            f"calibrated by {metadata.calibration_networks} random networks; the sum misses one it has not seen by "
            f"{metadata.network_error_percent:.2f} %"
        )
    reasons: dict[str, list[str]] = {}
    for row in failed:
        key = row.spec.key()
        reasons.setdefault(row.notes.removeprefix(f"{key}: "), []).append(key)
    for reason, keys in reasons.items():
        more = f" and {len(keys) - 1} more" if len(keys) > 1 else ""
        click.echo(f"  failed: {keys[0]}{more}: {reason}")
    noted = [row for row in lut.rows.values() if row.status == "ok" and row.notes]
    if noted:
        click.echo(
            f"  {len(noted)} operators do not run wholly where they should; see the table's notes, e.g. "
            f"{noted[0].spec.key()}: {noted[0].notes}"
        )
    click.echo(f"verdict: {metadata.verdict}")
    for warning in metadata.warnings:
        click.echo(f"  - {warning}")
    click.echo(f"next: {next_step(lut, table, len(failed))}    raw samples: {journal}")


def next_step(lut: Lut, table: Path, failed: int) -> str:
    """Return what to do with a table: use it, or mend what keeps it from use."""
    again = "the same command with --fresh"
    if failed:
        what = f"{failed} operator{'s' * (failed != 1)}"
        return f"mend why {what} failed, as no search takes a table without, then {again}"
    if lut.metadata.verdict == "do not use":
        return f"mend what the verdict names, then {again}"
    space = lut.metadata.space
    return f"{f'fbprof verify {space}' if is_network(space) else 'fbsearch run'} --lut {table}"
