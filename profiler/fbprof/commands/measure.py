"""fbprof measure: a latency table of a device."""

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fbexport.runtimes import DEFAULT, RUNTIMES
from fbprof.commands import _complete as complete
from fbprof.commands import _options

if TYPE_CHECKING:
    from fbagents.profile import Profile
    from fblut.table import Lut
    from fbprof.measure.farm import Job
    from fbprof.plan.plan import Before
    from fbspace.space import Space


@click.command("measure")
@click.option(
    "--device",
    "devices",
    multiple=True,
    shell_complete=complete.devices,
    help="Device profile: a known name or a .toml file; several are measured side by side.  [default: local]",
)
@click.option(
    "--all", "with_attached", is_flag=True, help="All phones that are attached, and any --device beside them."
)
@click.option(
    "--space",
    default="fbnet-tiny",
    shell_complete=complete.spaces,
    show_default=True,
    help="Search space by name or .toml file, or one network by name or .json file.",
)
@click.option(
    "--runtime",
    default=DEFAULT,
    show_default=True,
    shell_complete=complete.runtimes,
    help=f"{RUNTIMES.listed()}.",
)
@_options.agent
@_options.binary
@_options.binary_args
@click.option(
    "--precision", default="float32", show_default=True, help="Precision of the models: float32, float16 or int8."
)
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
@click.option(
    "--grid",
    type=click.IntRange(2),
    help="Points per axis of a space of several widths, expansions or sizes.  [default: what fits --max-time]",
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
@click.option("--keep", is_flag=True, help="Leave what was sent to the device there, for the next run.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="The table to write, or its folder.  [default: DEVICE.csv]"
)
def command(
    devices: tuple[str, ...],
    with_attached: bool,
    space: str,
    runtime: str,
    agent: str | None,
    binary: Path | None,
    binary_args: str | None,
    precision: str,
    threads: int,
    cores: str | None,
    ci_percent: float,
    max_time_min: float,
    rounds: int | None,
    networks: int | None,
    grid: int | None,
    runs: int,
    drop: int,
    before: "Before",
    memory_mb: int | None,
    seed: int,
    quick: bool,
    strict: bool,
    dry_run: bool,
    fresh: bool,
    keep: bool,
    as_json: bool,
    output: Path | None,
) -> None:
    r"""Measure every operator of a space on a device and write the latency table.

    Operators and some random networks are visited in random interleaved rounds until every operator is known well
    enough; the networks put the operators into the context in which they will run. Every sample goes to a journal
    beside the table (NAME.journal.jsonl) as it arrives; after Ctrl-C, a crash or a power cut the same command
    continues there.

    Of a space of several widths, expansions or sizes (FBNetV2) a grid is measured, with as many points as fit
    --max-time, and operators between its points are interpolated.

    Several devices are measured at once, each with a journal and a table of its own (DEVICE.csv, in the folder -o).
    One that fails leaves the others alone; the exit code is then 4 where another one got its table or the same command
    can go on, and 3 where none could be measured.

    With --agent benchmark_model (docs/devices/benchmark-model.md) Google's own program measures, for its delegates;
    each visit is then a process of it, which gives one sample, the average of its inferences.

    \b
    Example:
      fbprof measure --device local --space fbnet --runtime litert -o local.csv
      fbprof measure --device pixel-3 --device galaxy-s8 --space fbnet -o tables/
      fbprof measure --device pixel-3 --agent benchmark_model --binary benchmark_model --binary-args "--use_gpu=true"
    """
    from fbagents.agent.cores import check_cores
    from fbagents.profile import load_profile
    from fbbase.errors import CheckError
    from fbexport.formats import format_for
    from fbprof.measure.farm import Job, check_devices
    from fbprof.plan.plan import (
        DEFAULT_NETWORKS,
        DEFAULT_ROUNDS,
        QUICK_ROUNDS,
        Plan,
        describe,
        with_agent,
        with_operators,
    )
    from fbprof.report.summary import plan_summary, print_plan
    from fbspace.architecture import load_space_of

    if drop >= runs:
        raise click.BadParameter(f"--drop {drop} leaves nothing of --runs {runs}")
    profiles = [load_profile(device) for device in devices or (() if with_attached else ("local",))]
    if with_attached:
        profiles += _attached()
    if keep:
        profiles = [profile.model_copy(update={"keep": True}) for profile in profiles]
    profiles = [_options.with_binary(profile, agent, binary, binary_args) for profile in profiles]
    _options.check_benchmark(profiles, runtime)
    check_devices(profiles)
    tables = _tables(profiles, output)
    format_for(runtime, precision)  # what cannot be written is told before anything is done
    loaded_space = load_space_of(space)
    if networks is None:
        networks = 0 if quick else DEFAULT_NETWORKS
    plan = Plan(
        space=space,
        device=profiles[0].name,
        runtime=runtime,
        precision=precision,
        threads=threads,
        cores=None if cores is None else check_cores(cores),
        runs=runs,
        dropped=drop,
        seed=seed,
        operators=(),
        rounds=rounds or (QUICK_ROUNDS if quick else DEFAULT_ROUNDS),
        ci_percent=ci_percent,
        max_time_s=60 * max_time_min,
        memory_bytes=memory_mb * 1_000_000 if memory_mb else None,
        before=before,
    )
    chosen = with_operators(with_agent(plan, profiles[0]), loaded_space, networks, grid)
    plan = replace(plan, operators=chosen.operators, networks=chosen.networks, grid_points=chosen.grid_points)
    jobs = []
    for profile, table in zip(profiles, tables, strict=True):
        bound = replace(plan, device=profile.name, cores=profile.cores if cores is None else plan.cores)
        jobs.append(Job(profile, with_agent(bound, profile), table))
    if dry_run:
        if as_json:
            _echo_json([plan_summary(job.plan, job.table) for job in jobs])
            return
        click.echo(describe(plan.operators))
        for job in jobs:
            click.echo()
            print_plan(job.plan, job.table)
        return
    luts = (
        [_measure(jobs[0], loaded_space, fresh, as_json)]
        if len(jobs) == 1
        else _farm(jobs, loaded_space, fresh, as_json)
    )
    for job, lut in zip(jobs, luts, strict=True):
        if strict and lut.metadata.verdict == "do not use":
            raise CheckError(f"verdict: do not use {job.table}: {lut.metadata.warnings[0]}")


def _attached() -> "list[Profile]":
    """Return a profile of every attached phone. Raises DeviceError where none can be measured."""
    from fbagents.discovery import attached, attached_profiles
    from fbagents.errors import DeviceError

    for phone in attached():
        if not phone.is_usable:
            click.echo(f"{phone} is left out: {phone.remedy}", err=True)
    profiles = attached_profiles()
    if not profiles:
        raise DeviceError("no phone that can be measured is attached; fbprof devices lists what is")
    return profiles


def _tables(profiles: "Sequence[Profile]", output: Path | None) -> list[Path]:
    """Return where each device's table goes. Raises FbError where several were to go into one file."""
    from fbbase.errors import FbError

    if len(profiles) == 1 and output is not None and not output.is_dir():
        return [output]
    folder = output or Path()
    if not folder.is_dir() and (folder.suffix or folder.exists()):
        raise FbError(
            f"-o {folder} is not a folder: {len(profiles)} devices write a table each, DEVICE.csv in a folder"
        )
    return [folder / f"{profile.name}.csv" for profile in profiles]


def _measure(job: "Job", space: "Space", fresh: bool, as_json: bool) -> "Lut":
    from fblut.writing import write_lut
    from fbprof.measure.run import journal_path, keeping, measure
    from fbprof.report.summary import print_summary, summary_of

    journal = journal_path(job.table)
    start = time.monotonic()
    with keeping(journal):
        lut = measure(job.plan, space, job.profile, journal, fresh)
    write_lut(lut, job.table)
    seconds = round(time.monotonic() - start, 1)
    if as_json:
        _echo_json([summary_of(lut, job.table, journal, job.plan.ci_percent, seconds)])
    else:
        print_summary(lut, job.table, journal, job.plan.ci_percent, seconds)
    return lut


def _farm(jobs: "Sequence[Job]", space: "Space", fresh: bool, as_json: bool) -> "list[Lut]":
    """Measure on several devices and print what each came to. Raises what the failures of some amount to."""
    from fbprof.measure.farm import measure_all, raise_failures
    from fbprof.measure.run import journal_path
    from fbprof.report.summary import print_summary, summary_of

    outcomes = measure_all(jobs, space, fresh)
    summaries: list[dict[str, object]] = []
    for outcome in outcomes:
        job, seconds = outcome.job, round(outcome.seconds, 1)
        journal, percent = journal_path(job.table), job.plan.ci_percent
        if outcome.lut is None:
            error = str(outcome.error) or "interrupted"
            summaries.append({"device": job.plan.device, "journal": str(journal), "error": error})
        elif as_json:
            summaries.append(summary_of(outcome.lut, job.table, journal, percent, seconds))
        else:
            print_summary(outcome.lut, job.table, journal, percent, seconds)
    if as_json:
        _echo_json(summaries)
    raise_failures(outcomes)
    return [outcome.lut for outcome in outcomes if outcome.lut is not None]


def _echo_json(summaries: list[dict[str, object]]) -> None:
    """Print one device's summary as an object, those of several as a list."""
    click.echo(json.dumps(summaries[0] if len(summaries) == 1 else summaries, indent=2, ensure_ascii=False))
