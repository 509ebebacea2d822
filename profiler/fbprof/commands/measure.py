"""fbprof measure: a latency table of a device."""

import json
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from fbagents.profile import Profile
    from fbprof.plan import Plan


@click.command("measure")
@click.option("--device", default="local", show_default=True, help="Device profile: a known name or a .toml file.")
@click.option("--space", default="fbnet-tiny", show_default=True, help="Search space: a known name or a .toml file.")
@click.option("--runtime", default="litert", show_default=True, help="litert, onnxruntime or torch.")
@click.option("--precision", default="float32", show_default=True, help="Precision of the models.")
@click.option("--threads", type=click.IntRange(1, 64), default=1, show_default=True)
@click.option("--cores", help="Bind the agent to these cores, e.g. 0 or 0,2 or 4-7.")
@click.option("--rounds", type=click.IntRange(1), help="Visits to every operator.  [default: 200, with --quick 10]")
@click.option("--runs", type=click.IntRange(1, 1000), default=3, show_default=True, help="Runs in a row per visit.")
@click.option("--drop", type=click.IntRange(0), default=1, show_default=True, help="First runs of a visit not counted.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the random order and the random weights.")
@click.option("--quick", is_flag=True, help="Few rounds: a first look, with wide intervals.")
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
    rounds: int | None,
    runs: int,
    drop: int,
    seed: int,
    quick: bool,
    dry_run: bool,
    fresh: bool,
    as_json: bool,
    output: Path | None,
) -> None:
    r"""Measure every operator of a space on a device and write the latency table.

    All operators stay loaded and are visited in random interleaved rounds. Every sample goes to a journal beside the
    table (NAME.journal.jsonl) as it arrives; after Ctrl-C, a crash or a power cut the same command continues there.

    \b
    Example:
      fbprof measure --device local --space fbnet --runtime litert -o local.csv
    """
    from fbagents.agent import parse_cores
    from fbagents.profile import load_profile
    from fbprof.formats import check_precision, format_of
    from fbprof.plan import DEFAULT_ROUNDS, QUICK_ROUNDS, Plan
    from fbspace.space import load_space

    if drop >= runs:
        raise click.BadParameter(f"--drop {drop} leaves nothing of --runs {runs}")
    profile = load_profile(device)
    format_of(runtime)  # an unknown runtime or precision is told before anything is done
    check_precision(precision)
    plan = Plan(
        space=space,
        device=profile.name,
        runtime=runtime,
        precision=precision,
        threads=threads,
        cores=parse_cores(cores) if cores else None,
        rounds=rounds or (QUICK_ROUNDS if quick else DEFAULT_ROUNDS),
        runs=runs,
        dropped=drop,
        seed=seed,
        operators=tuple(load_space(space).operators()),
    )
    table = output or Path(f"{profile.name}.csv")
    if dry_run:
        _print_plan(plan, table, as_json)
    else:
        _measure(plan, profile, table, fresh, as_json)


def _print_plan(plan: "Plan", table: Path, as_json: bool) -> None:
    from fbprof.journal import read_journal
    from fbprof.measure import journal_path
    from fbprof.plan import describe

    journal = read_journal(journal_path(table))
    done = len(journal.counted()) if journal else 0
    summary = {
        "operators": [spec.key() for spec in plan.operators],
        "rounds": plan.rounds,
        "visits": plan.rounds * len(plan.operators),
        "visits_done": done,
        "estimated_s": round(plan.estimated_s(), 1),
        "table": str(table),
        "journal": str(journal_path(table)),
    }
    if as_json:
        click.echo(json.dumps(summary, indent=2))
        return
    click.echo(describe(plan.operators))
    click.echo(
        f"\n{len(plan.operators)} operators of space {plan.space} on {plan.device}, {plan.runtime}, {plan.precision}, "
        f"{plan.threads} thread{'s' * (plan.threads != 1)}"
        f"\n{plan.rounds} rounds, {plan.timing}; {done} of {summary['visits']} visits are already in the journal"
        f"\nestimated time: about {summary['estimated_s']} s (a guess from the operators' sizes)"
        f"\nfiles: {table} (table), {journal_path(table)} (raw samples)"
    )


def _measure(plan: "Plan", profile: "Profile", table: Path, fresh: bool, as_json: bool) -> None:
    from fbbase.errors import PartialError, StorageError
    from fblut.writing import write_lut
    from fbprof.journal import read_journal
    from fbprof.measure import journal_path, measure

    journal = journal_path(table)
    start = time.monotonic()
    try:
        lut = measure(plan, profile, journal, fresh)
    except KeyboardInterrupt:
        content = read_journal(journal)
        done = len(content.counted()) if content else 0
        total = plan.rounds * len(plan.operators)
        click.echo(f"{done} of {total} visits are kept in {journal}; the same command continues", err=True)
        raise
    except StorageError as error:
        raise PartialError(f"{error}; what was measured is kept, and the same command continues") from error
    write_lut(lut, table)
    failed = [row for row in lut.rows.values() if row.status == "failed"]
    half_widths = [
        50 * (row.ci_high_us - row.ci_low_us) / row.latency_us
        for row in lut.rows.values()
        if row.latency_us and row.ci_low_us and row.ci_high_us
    ]
    summary = {
        "table": str(table),
        "journal": str(journal),
        "operators": len(lut.rows),
        "failed": {row.spec.key(): row.notes for row in failed},
        "rounds": lut.metadata.rounds,
        "seconds": round(time.monotonic() - start, 1),
        "median_ci_half_width_percent": round(statistics.median(half_widths), 2) if half_widths else None,
        "drift_range_percent": lut.metadata.drift_range_percent,
        "measured_at": lut.metadata.measured_at,
    }
    if as_json:
        click.echo(json.dumps(summary, indent=2))
        return
    interval = f", median 95 % interval ±{summary['median_ci_half_width_percent']} %" if half_widths else ""
    wandered = lut.metadata.drift_range_percent
    drift = f", drift of {wandered:.1f} % taken out" if wandered is not None else ""
    click.echo(
        f"{table}: {len(lut.rows) - len(failed)} of {len(lut.rows)} operators on {lut.metadata.device} "
        f"({lut.metadata.soc}, {lut.metadata.runtime} {lut.metadata.runtime_version}), "
        f"{lut.metadata.rounds} rounds{interval}{drift}, {summary['seconds']} s"
    )
    for row in failed:
        click.echo(f"  failed: {row.spec.key()}: {row.notes}")
    click.echo(f"next: fbsearch run --lut {table}    raw samples: {journal}")
