"""fbprof measure: a latency table of a device."""

import json
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from fbagents.profile import Profile
    from fblut.table import Lut
    from fbprof.plan import Before, Plan
    from fbspace.space import Space


@click.command("measure")
@click.option("--device", default="local", show_default=True, help="Device profile: a known name or a .toml file.")
@click.option("--space", default="fbnet-tiny", show_default=True, help="Search space: a known name or a .toml file.")
@click.option("--runtime", default="litert", show_default=True, help="litert, onnxruntime or torch.")
@click.option("--precision", default="float32", show_default=True, help="Precision of the models.")
@click.option("--threads", type=click.IntRange(1, 64), default=1, show_default=True)
@click.option("--cores", help="Bind to these: big, middle, little, all, 0-3,6 or 0xf0.  [default: as the profile says]")
@click.option(
    "--ci",
    "ci_percent",
    type=click.FloatRange(min=0, min_open=True),
    default=1.0,
    show_default=True,
    help="Measure until every 95 % interval is within ± this many percent.",
)
@click.option(
    "--max-time",
    "max_time_min",
    type=click.FloatRange(min=0, min_open=True),
    default=30.0,
    show_default=True,
    help="Minutes after which measuring stops, whatever the intervals.",
)
@click.option("--rounds", type=click.IntRange(1), help="Most visits to everything.  [default: 400, with --quick 10]")
@click.option(
    "--calibrate",
    "networks",
    type=click.IntRange(0),
    help="Random networks that put the table into context.  [default: 50, with --quick none]",
)
@click.option("--runs", type=click.IntRange(1, 1000), default=3, show_default=True, help="Runs in a row per visit.")
@click.option("--drop", type=click.IntRange(0), default=1, show_default=True, help="First runs of a visit not counted.")
@click.option(
    "--before",
    type=click.Choice(["others", "itself"]),
    default="others",
    show_default=True,
    help="What ran before a visit: another model, or the same one.",
)
@click.option("--memory", "memory_mb", type=click.IntRange(1), help="MB of models loaded at once.  [default: half]")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the order, the weights and the networks.")
@click.option("--quick", is_flag=True, help="Few rounds, no networks: a first look, with wide intervals.")
@click.option("--strict", is_flag=True, help="Exit 1 if the verdict on the run is: do not use.")
@click.option("--dry-run", is_flag=True, help="Print what would be measured and how long it takes, and stop.")
@click.option("--fresh", is_flag=True, help="Start over; earlier samples are set aside (.old).")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The table to write.  [default: DEVICE.csv]")
def command(
    device: str,
    space: str,
    runtime: str,
    precision: str,
    threads: int,
    cores: str | None,
    ci_percent: float,
    max_time_min: float,
    rounds: int | None,
    networks: int | None,
    runs: int,
    drop: int,
    before: "Before",
    memory_mb: int | None,
    seed: int,
    quick: bool,
    strict: bool,
    dry_run: bool,
    fresh: bool,
    as_json: bool,
    output: Path | None,
) -> None:
    r"""Measure every operator of a space on a device and write the latency table.

    Operators and some random networks are visited in random interleaved rounds until every operator is known well
    enough; the networks put the operators into the context in which they will run. Every sample goes to a journal
    beside the table (NAME.journal.jsonl) as it arrives; after Ctrl-C, a crash or a power cut the same command
    continues there.

    \b
    Example:
      fbprof measure --device local --space fbnet --runtime litert -o local.csv
    """
    from fbagents.cores import check_cores
    from fbagents.profile import load_profile
    from fbbase.errors import CheckError
    from fbprof.formats import check_precision, format_of
    from fbprof.plan import DEFAULT_NETWORKS, DEFAULT_ROUNDS, QUICK_ROUNDS, Plan, calibration_networks
    from fbspace.space import load_space

    if drop >= runs:
        raise click.BadParameter(f"--drop {drop} leaves nothing of --runs {runs}")
    profile = load_profile(device)
    format_of(runtime)  # an unknown runtime or precision is told before anything is done
    check_precision(precision)
    loaded_space = load_space(space)
    if networks is None:
        networks = 0 if quick else DEFAULT_NETWORKS
    plan = Plan(
        space=space,
        device=profile.name,
        runtime=runtime,
        precision=precision,
        threads=threads,
        cores=profile.cores if cores is None else check_cores(cores),
        runs=runs,
        dropped=drop,
        seed=seed,
        operators=tuple(loaded_space.operators()),
        networks=calibration_networks(loaded_space, networks, seed),
        rounds=rounds or (QUICK_ROUNDS if quick else DEFAULT_ROUNDS),
        ci_percent=ci_percent,
        max_time_s=60 * max_time_min,
        memory_bytes=memory_mb * 1_000_000 if memory_mb else None,
        before=before,
    )
    table = output or Path(f"{profile.name}.csv")
    if dry_run:
        _print_plan(plan, table, as_json)
    else:
        lut = _measure(plan, loaded_space, profile, table, fresh, as_json)
        if strict and lut.metadata.verdict == "do not use":
            raise CheckError(f"verdict: do not use {table}: {lut.metadata.warnings[0]}")


def _print_plan(plan: "Plan", table: Path, as_json: bool) -> None:
    from fbprof.journal import read_journal
    from fbprof.measure import journal_path
    from fbprof.plan import describe

    journal = read_journal(journal_path(table))
    done = len(journal.visits) if journal else 0
    summary = {
        "operators": [spec.key() for spec in plan.operators],
        "networks": [network.key for network in plan.networks],
        "min_rounds": plan.min_rounds,
        "rounds": plan.rounds,
        "visits": plan.min_rounds * len(plan.subjects),
        "visits_done": done,
        "estimated_s": round(min(plan.estimated_s(), plan.max_time_s), 1),
        "table": str(table),
        "journal": str(journal_path(table)),
    }
    if as_json:
        click.echo(json.dumps(summary, indent=2))
        return
    click.echo(describe(plan.operators))
    click.echo(
        f"\n{len(plan.operators)} operators of space {plan.space} and {len(plan.networks)} random networks on "
        f"{plan.device}, {plan.runtime}, {plan.precision}, {plan.threads} thread{'s' * (plan.threads != 1)}"
        f"\n{plan.min_rounds} rounds, then up to {plan.rounds} visits until within ±{plan.ci_percent:g} %, for at most "
        f"{plan.max_time_s / 60:g} min; {plan.timing}; {done} visits are already in the journal"
        f"\nestimated time: {summary['estimated_s']} s or more (a guess from the operators' sizes)"
        f"\nfiles: {table} (table), {journal_path(table)} (raw samples)"
    )


def _measure(plan: "Plan", space: "Space", profile: "Profile", table: Path, fresh: bool, as_json: bool) -> "Lut":
    from fblut.writing import write_lut
    from fbprof.measure import journal_path, keeping, measure

    journal = journal_path(table)
    start = time.monotonic()
    with keeping(journal):
        lut = measure(plan, space, profile, journal, fresh)
    write_lut(lut, table)
    seconds = round(time.monotonic() - start, 1)
    if as_json:
        click.echo(json.dumps(_summary(lut, table, journal, plan.ci_percent, seconds), indent=2, ensure_ascii=False))
    else:
        _print_summary(lut, table, journal, plan.ci_percent, seconds)
    return lut


def _summary(lut: "Lut", table: Path, journal: Path, ci_percent: float, seconds: float) -> dict[str, object]:
    from fblut.check import half_width_percent

    metadata = lut.metadata
    half_widths = [half for row in lut.rows.values() if (half := half_width_percent(row)) is not None]
    return {
        "table": str(table),
        "journal": str(journal),
        "verdict": metadata.verdict,
        "warnings": metadata.warnings,
        "operators": len(lut.rows),
        "failed": {row.spec.key(): row.notes for row in lut.rows.values() if row.status == "failed"},
        "rounds": metadata.rounds,
        "seconds": seconds,
        "median_ci_half_width_percent": round(statistics.median(half_widths), 2) if half_widths else None,
        "wider_than_asked": sum(half > ci_percent for half in half_widths),
        "drift_range_percent": metadata.drift_range_percent,
        "calibration_networks": metadata.calibration_networks,
        "network_error_percent": metadata.network_error_percent,
        "measured_at": metadata.measured_at,
    }


def _print_summary(lut: "Lut", table: Path, journal: Path, ci_percent: float, seconds: float) -> None:
    summary, metadata = _summary(lut, table, journal, ci_percent, seconds), lut.metadata
    failed = [row for row in lut.rows.values() if row.status == "failed"]
    width = summary["median_ci_half_width_percent"]
    wide = summary["wider_than_asked"]
    interval = f", median 95 % interval ±{width} %" if width is not None else ""
    wider = f" ({wide} wider than ±{ci_percent:g} %)" if wide else ""
    drift = f", drift of {metadata.drift_range_percent:.1f} % taken out" if metadata.drift_range_percent else ""
    click.echo(
        f"{table}: {len(lut.rows) - len(failed)} of {len(lut.rows)} operators on {metadata.device} ({metadata.soc}, "
        f"{metadata.runtime} {metadata.runtime_version}), {metadata.rounds} visits or more each"
        f"{interval}{wider}{drift}, {seconds} s"
    )
    if metadata.calibration_networks:
        click.echo(
            f"calibrated by {metadata.calibration_networks} random networks; the sum misses one it has not seen by "
            f"{metadata.network_error_percent:.2f} %"
        )
    for row in failed:
        click.echo(f"  failed: {row.spec.key()}: {row.notes}")
    click.echo(f"verdict: {metadata.verdict}")
    for warning in metadata.warnings:
        click.echo(f"  - {warning}")
    click.echo(f"next: fbsearch run --lut {table}    raw samples: {journal}")
