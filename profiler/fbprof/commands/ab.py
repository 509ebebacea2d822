"""fbprof ab: whether one model is slower than another, beyond doubt."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fbbase.commandline import Whole
from fbprof.commands import _complete as complete
from fbprof.commands import _options
from fbprof.commands.compare import percent

if TYPE_CHECKING:
    from fbprof.models.paired import Difference
    from fbprof.models.result import Result

MAX_TIME_MIN = 1.5
MOST_VISITS = 100_000


@click.command("ab")
@click.argument("old")
@click.argument("new", required=False)
@click.option("--device", default="local", show_default=True, shell_complete=complete.devices, help="Device profile.")
@click.option(
    "--fail-above",
    callback=percent,
    metavar="PERCENT",
    help="Exit with 1 where NEW is slower by more, with 4 where the time does not suffice to tell.",
)
@_options.timing("max_time_min", "--max-time", default=MAX_TIME_MIN)
@_options.fed
@_options.timing("threads")
@click.option("--cores", metavar="CORES", help="As for fbprof measure.")
@_options.timing("precision")
@click.option("--b-runtime", help="Another runtime for NEW.")
@click.option("--b-threads", type=Whole(1, 64), help="Other threads for NEW.")
@click.option("--b-cores", metavar="CORES", help="Other cores for NEW.")
@click.option("--b-precision", help="Another precision for NEW.")
@_options.timing("runs")
@_options.timing("dropped", "--drop")
@_options.seed
@_options.fresh
@click.option(
    "--format",
    "format_name",
    type=click.Choice(["text", "md", "json"]),
    default="text",
    help="md: a comment for a pull request.  [default: text]",
)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@click.option("-o", "--output", type=_options.PATH, help="Keep the result here, and the raw samples beside it.")
def command(
    old: str,
    new: str | None,
    device: str,
    fail_above: float | None,
    runtime: str | None,
    shapes: tuple[str, ...],
    inputs: Path | None,
    threads: int,
    cores: str | None,
    precision: str,
    b_runtime: str | None,
    b_threads: int | None,
    b_cores: str | None,
    b_precision: str | None,
    format_name: str,
    as_json: bool,
    fresh: bool,
    output: Path | None,
    **timing: Any,
) -> None:
    r"""Tell by how much NEW is slower than OLD on a device, with a 95 % interval.

    Both are loaded together, visited in random order in one session and loaded anew again and again, until the answer
    is certain or --max-time is up. NEW may be left out where it is OLD under another setting (--b-threads, --b-cores,
    --b-precision, --b-runtime). Exit code 0 within --fail-above, 1 beyond it, 4 where it could not be told.

    \b
    Example:
      fbprof ab old.tflite new.tflite --device galaxy-s8 --fail-above 3%
      fbprof ab detector.onnx --b-threads 4
      fbprof ab fbnet-a fbnet-b --device pixel-3 --format md
    """
    from fbagents.agent.cores import check_cores
    from fbagents.connect import load_profile
    from fbbase.errors import CheckError, UndecidedError
    from fbbase.locks import scratch_folder
    from fbexport.runtimes import prepare_process
    from fbprof.errors import MeasurementError
    from fbprof.models.jobs import measure_models, model_jobs
    from fbprof.models.named import parse_shape
    from fbprof.models.paired import RELOAD_VISITS, PairedSchedule, difference
    from fbprof.models.profile import Asked, result_of, samples_of, variants_of
    from fbprof.models.result import write_result

    if new is None and not any((b_runtime, b_threads, b_cores, b_precision)):
        raise click.UsageError(
            "name NEW, or what is other for it: --b-threads, --b-cores, --b-precision or --b-runtime"
        )
    _options.check_runs(timing)
    profile = load_profile(device)
    prepare_process()
    with scratch_folder() as folder:
        sides = []
        asked = Asked(
            (old,),
            runtime,
            (threads,),
            (check_cores(cores) if cores else None,),
            precisions=(precision,),
            shapes=tuple(map(parse_shape, shapes)),
            inputs=inputs,
            seed=timing["seed"],
        )
        other = replace(
            asked,
            texts=(new or old,),
            runtime=b_runtime or runtime,
            threads=(b_threads or threads,),
            cores=(check_cores(b_cores),) if b_cores else asked.cores,
            precisions=(b_precision or precision,),
        )
        for side, each in (("A", asked), ("B", other)):
            (folder / side).mkdir()
            (variant,) = variants_of(each, folder / side)
            sides.append(variant.called(f"{side} {variant.name}"))
        (job,) = model_jobs(sides, [profile], output or folder / "ab.json", "ab", rounds=MOST_VISITS,
                            reload_visits=RELOAD_VISITS, **timing)  # fmt: skip
        content = measure_models(
            job.job,
            fresh,
            schedule=lambda plan, references, content: PairedSchedule(plan, content, fail_above),
            kept=output is not None,
        )
        found = difference(content, *(each.subject.key for each in job.variants))
        result = result_of(content, samples_of(content, job.variants), job.variants)
        if output is not None:
            write_result(result, job.job.table)
    failed = [each for each in result.models if each.failed]
    if found is None or failed:
        why = f"{failed[0].name}: {failed[0].failed}" if failed else "no round has a sample of both"
        raise MeasurementError(f"they cannot be compared: {why}")
    _print(found, result, fail_above, "json" if as_json else format_name)
    if fail_above is not None:
        within = found.within(fail_above)
        if within is None:
            raise UndecidedError(
                f"cannot tell whether NEW is slower by more than {fail_above:g} %: {found}; give more --max-time, or a "
                "quieter device"
            )
        if not within:
            raise CheckError(f"NEW is slower by more than {fail_above:g} %: {found}")


def _print(found: "Difference", result: "Result", fail_above: float | None, format_name: str) -> None:
    from fblut.views.md import escape
    from fbprof.models.summary import in_ms

    old, new = result.models
    if format_name == "json":
        low, high = found.interval_percent
        answer = {
            "percent": found.percent,
            "ci_percent": [low, high],
            "answer": found.word,
            "within": None if fail_above is None else found.within(fail_above),
            "loads": found.loads,
            "pairs": found.pairs,
            "result": result.model_dump(mode="json", exclude_none=True),
        }
        _options.print_json(answer)
        return
    where = f"{result.device} ({result.where})"
    basis = f"{found.pairs} pair{'s' * (found.pairs != 1)} of visits in {found.loads} load{'s' * (found.loads != 1)}"
    rows = []
    for side, each in (("OLD", old), ("NEW", new)):
        basis_of = ", by the CPU time" if each.by_cpu_time else ""
        rows.append((side, each.name[2:], in_ms(each.latency_us), f"{each.setting}{basis_of}"))
    if format_name == "md":
        click.echo(f"**{found}** on {escape(where)}\n\n| | model | latency | run in |\n|---|---|---|---|")
        for side, name, ms, setting in rows:
            click.echo(f"| {side} | {escape(name)} | {ms} ms | {escape(setting)} |")
        click.echo(f"\n{basis}; verdict on the run: {result.verdict}")
    else:
        click.echo(f"{found}")
        for side, name, ms, setting in rows:
            click.echo(f"  {side}  {ms:>9} ms  {name}  ({setting})")
        click.echo(f"on {where}, {basis}; verdict on the run: {result.verdict}")
        for warning in result.warnings:
            click.echo(f"  - {warning}")
