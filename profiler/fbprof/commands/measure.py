"""fbprof measure: a latency table of a device."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fbbase.commandline import Whole
from fbprof.commands import _complete as complete
from fbprof.commands import _options
from fbprof.plan.timing import CALIBRATION_NETWORKS, QUICK_ROUNDS

if TYPE_CHECKING:
    from fbagents.profile import Profile
    from fblut.table import At
    from fbprof.measure.jobs import Outcome


@click.command("measure")
@_options.devices
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
@_options.timing("runtime", shell_complete=complete.runtimes)
@_options.program
@_options.timing("precision")
@_options.timing("threads")
@click.option(
    "--cores",
    multiple=True,
    help="Bind to these: big, middle, little, all, 0-3,6 or 0xf0; several together.  [default: as the profile says]",
)
@_options.timing("ci_percent", "--ci")
@_options.max_time
@_options.timing(
    "rounds",
    default=None,
    help=f"Most visits to everything.  [default: {_options.TIMING['rounds'].default}, with --quick {QUICK_ROUNDS}]",
)
@click.option(
    "--calibrate",
    "networks",
    type=Whole(0),
    help=f"Random networks that put the table into context.  [default: {CALIBRATION_NETWORKS}, with --quick none]",
)
@click.option(
    "--grid",
    type=Whole(2),
    help="Points per axis of a space of several widths, expansions or sizes.  [default: what fits --max-time]",
)
@_options.timing("runs")
@_options.timing("dropped", "--drop")
@_options.timing("before")
@_options.at
@click.option("--memory", "memory_mb", metavar="MB", type=Whole(1), help="Of models loaded at once.  [default: half]")
@_options.seed
@click.option("--quick", is_flag=True, help="Few rounds, no networks: a first look, with wide intervals.")
@click.option("--strict", is_flag=True, help="Exit 1 if the verdict on the run is: do not use.")
@click.option("--dry-run", is_flag=True, help="Print what would be measured and how long it takes, and stop.")
@_options.fresh
@click.option("--keep", is_flag=True, help="Leave what was sent to the device there, for the next run.")
@_options.as_json
@click.option("-o", "--output", type=_options.PATH, help="The table to write, or its folder.  [default: DEVICE.csv]")
def command(
    devices: tuple[str, ...],
    with_attached: bool,
    space: str,
    agent: str | None,
    binary: Path | None,
    binary_args: str | None,
    cores: tuple[str, ...],
    networks: int | None,
    grid: int | None,
    at: "At",
    memory_mb: int | None,
    quick: bool,
    strict: bool,
    dry_run: bool,
    fresh: bool,
    keep: bool,
    as_json: bool,
    output: Path | None,
    **timing: Any,
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
    from fbagents.connect import load_profile
    from fbbase.errors import CheckError, FbError
    from fbexport.formats import format_for
    from fbexport.runtimes import prepare_process
    from fbmodel.model import model_suffixes
    from fbprof.estimate.calibrate import MIN_NETWORKS
    from fbprof.measure.farm import measure_all, raise_failures
    from fbprof.measure.jobs import carry_out, jobs_of
    from fbprof.plan.plan import Plan
    from fbprof.report.summary import describe, plan_summary, print_plan, print_summary
    from fbspace.architecture import load_space_of

    _options.check_runs(timing)
    profiles = [load_profile(device) for device in devices or (() if with_attached else ("local",))]
    if with_attached:
        profiles += _attached()
    if keep:
        profiles = [profile.model_copy(update={"keep": True}) for profile in profiles]
    profiles = [_options.with_binary(profile, agent, binary, binary_args) for profile in profiles]
    _options.check_benchmark(profiles, timing["runtime"])
    prepare_process()
    format_for(timing["runtime"], timing["precision"])  # fails before anything is done
    if timing["rounds"] is None:
        timing["rounds"] = QUICK_ROUNDS if quick else _options.TIMING["rounds"].default
    if networks is None:
        networks = 0 if quick else CALIBRATION_NETWORKS
    elif 0 < networks < MIN_NETWORKS:
        raise click.BadParameter(
            f"--calibrate {networks}: a table is calibrated by {MIN_NETWORKS} networks or more (better "
            f"{CALIBRATION_NETWORKS}), and fewer would be measured for nothing; 0 measures none"
        )
    plan = Plan(
        space=space,
        device=profiles[0].name,
        cores=check_cores(",".join(cores)) if cores else None,
        memory_bytes=memory_mb * 1_000_000 if memory_mb else None,
        **timing,
    )
    if space.lower().endswith(model_suffixes()):
        raise FbError(f"{space} is a model file and no search space: fbprof profile {space} times model files")
    loaded_space = load_space_of(space)
    jobs = jobs_of(plan, profiles, output, loaded_space, networks, grid, at)
    if dry_run:
        if as_json:
            _print_json([plan_summary(job.plan, job.table) for job in jobs])
            return
        click.echo(describe(jobs[0].plan.operators))
        for job in jobs:
            click.echo()
            print_plan(job.plan, job.table)
        return

    def tell(outcome: "Outcome") -> None:
        if not as_json and outcome.lut is not None:
            print_summary(outcome.lut, *_came_of(outcome))

    if len(jobs) == 1:
        outcomes = [carry_out(jobs[0], loaded_space, fresh)]
        tell(outcomes[0])
    else:
        outcomes = measure_all(jobs, lambda job, files, check: carry_out(job, loaded_space, fresh, files, check), tell)
    if as_json:
        _print_json([_summary(outcome) for outcome in outcomes])
    raise_failures(outcomes)
    for job, lut in ((outcome.job, outcome.lut) for outcome in outcomes):
        if strict and lut is not None and lut.metadata.verdict == "do not use":
            raise CheckError(f"verdict: do not use {job.table}: {lut.metadata.warnings[0]}")


def _attached() -> "list[Profile]":
    """Return a profile of every attached phone. Raises DeviceError where none can be measured."""
    from fbagents.connect import load_profile
    from fbagents.discovery import attached, attached_profiles, attached_twice
    from fbagents.errors import DeviceError

    for phone in attached():
        if not phone.is_usable:
            click.echo(f"{phone} is left out: {phone.remedy}", err=True)
    again = attached_twice()
    for phone, other in again.items():
        click.echo(f"{phone} is left out: it is the same phone as {other}", err=True)
    names = {load_profile(phone.device).name for phone in again}
    profiles = [profile for profile in attached_profiles() if profile.name not in names]
    if not profiles:
        raise DeviceError("no phone that can be measured is attached; fbprof devices lists what is")
    return profiles


def _came_of(outcome: "Outcome") -> "tuple[Path, Path, float, float]":
    """Return what a summary tells beside the table: its file and journal, the half-width asked for, and seconds."""
    from fbprof.journal.journal import journal_path

    table = outcome.job.table
    return table, journal_path(table), outcome.job.plan.ci_percent, round(outcome.seconds, 1)


def _summary(outcome: "Outcome") -> dict[str, object]:
    """Return what a device came to, as JSON."""
    from fbprof.report.summary import summary_of

    if outcome.lut is not None:
        return summary_of(outcome.lut, *_came_of(outcome))
    error = str(outcome.error) or "interrupted"
    return {"device": outcome.job.plan.device, "journal": str(_came_of(outcome)[1]), "error": error}


def _print_json(summaries: list[dict[str, object]]) -> None:
    """Print one device's summary as an object, those of several as a list."""
    _options.print_json(summaries[0] if len(summaries) == 1 else summaries)
