"""fbprof profile: how long model files take on a device, and where the time goes."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fbbase.errors import CheckError, FbError
from fbbase.files import STDOUT
from fbprof.commands import _options

if TYPE_CHECKING:
    from fbprof.models.result import Result

ROUNDS = 400
MAX_TIME_MIN = 10.0


def _numbers(ctx: click.Context, parameter: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    """Read `1,2,4`."""
    if value is None:
        return None
    parts = [part.strip() for part in value.split(",")]
    if not all(part.isascii() and part.isdigit() and 0 < int(part) < 1 << 20 for part in parts):
        raise click.BadParameter(f"{value!r} is no list of numbers such as 1,2,4")
    return tuple(dict.fromkeys(int(part) for part in parts))


@click.command("profile")
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
@_options.devices
@_options.fed
@click.option("--threads", callback=_numbers, default="1", show_default=True, metavar="N[,N...]", help="Threads.")
@click.option(
    "--cores",
    multiple=True,
    metavar="CORES",
    help="big, middle, little, all, 0-3,6 or 0xf0; with `big/little` or given twice each is measured.  "
    "[default: as the device's profile says]",
)
@click.option("--batch", callback=_numbers, metavar="N[,N...]", help="First side of all inputs.  [default: the file's]")
@click.option(
    "--precision",
    default="float32",
    show_default=True,
    metavar="NAME[,NAME...]",
    help="Of models that are exported here: float32, float16, int8.",
)
@click.option("--layers", is_flag=True, help="Also time every part of the file: where the time goes.")
@_options.timing("ci_percent", "--ci")
@_options.timing("max_time_min", "--max-time", default=MAX_TIME_MIN)
@_options.timing("rounds", default=ROUNDS)
@_options.timing("runs")
@_options.timing("dropped", "--drop")
@_options.seed
@click.option("--strict", is_flag=True, help="Exit 1 if the verdict on the run is: do not use.")
@_options.fresh
@click.option("--keep", is_flag=True, help="Leave what was sent to the device there, for the next run.")
@_options.as_json
@click.option("--csv", "csv_file", type=_options.PATH, help="Also write every model, and every layer of it, as CSV.")
@click.option("-o", "--output", type=_options.PATH, help="The result, or its folder.  [default: DEVICE.MODEL.json]")
def command(
    models: tuple[str, ...],
    devices: tuple[str, ...],
    runtime: str | None,
    shapes: tuple[str, ...],
    inputs: Path | None,
    threads: tuple[int, ...],
    cores: tuple[str, ...],
    batch: tuple[int, ...] | None,
    precision: str,
    layers: bool,
    strict: bool,
    fresh: bool,
    keep: bool,
    as_json: bool,
    csv_file: Path | None,
    output: Path | None,
    **timing: Any,
) -> None:
    r"""Measure how long models take on a device: any .tflite, .onnx, .pte or TorchScript file.

    A MODEL is a file, a published network's name, a network's .json file, or FILE.py:FUNCTION that returns an
    nn.Module; the last three are exported here. Its latency has a 95 % interval over several loads of the file, the
    device's drift taken out by rounds in random order and a reference workload. Several models, --threads, --cores,
    --batch and --precision are measured in one run and can be held against each other. Every sample is kept beside the
    result; after Ctrl-C, a crash or a power cut the same command continues.

    \b
    Example:
      fbprof profile detector.tflite --device galaxy-s8
      fbprof profile detector.onnx --shape 1x3x320x320 --threads 1,2 --layers
      fbprof profile fbnet-c --device pixel-3 --device galaxy-s8 -o results/
    """
    from fbagents.agent.cores import check_cores
    from fbagents.connect import load_profile
    from fbbase.locks import scratch_folder
    from fbexport.runtimes import prepare_process
    from fbprof.journal.journal import free_name, journal_path
    from fbprof.measure.farm import measure_all, raise_failures
    from fbprof.measure.jobs import Outcome
    from fbprof.models.jobs import is_other, measure_models, model_jobs
    from fbprof.models.layers import with_layers, with_parts
    from fbprof.models.named import parse_shape
    from fbprof.models.profile import Asked, result_of, samples_of, variants_of
    from fbprof.models.result import write_csv, write_result
    from fbprof.models.summary import print_result

    _options.check_runs(timing)
    if as_json and csv_file == STDOUT:
        raise click.UsageError("--json and --csv - cannot both go to stdout: name a file for --csv")
    profiles = [load_profile(device) for device in devices or ("local",)]
    if keep:
        profiles = [profile.model_copy(update={"keep": True}) for profile in profiles]
    prepare_process()
    asked = Asked(
        models,
        runtime,
        threads,
        tuple(dict.fromkeys(check_cores(each) for text in cores for each in text.split("/"))) or (None,),
        batch or (None,),
        tuple(dict.fromkeys(part.strip() for part in precision.split(","))),
        tuple(map(parse_shape, shapes)),
        inputs,
        timing["seed"],
    )
    results: dict[str, Result] = {}
    with scratch_folder() as folder:
        variants = variants_of(asked, folder)
        stem = variants[0].model.path.stem + (f"+{more}" if (more := len(variants) - 1) else "")
        timed = with_parts(variants) if layers else variants
        jobs = {each.job.profile.name: each for each in model_jobs(timed, profiles, output, stem, **timing)}
        anew = set(jobs) if fresh else set[str]()
        for device, each in jobs.items():
            _refuse_one_file(csv_file, each.job.table, journal_path(each.job.table))
            if device not in anew and output is None and is_other(each.job):
                anew.add(device)
                aside = f"{free_name(journal_path(each.job.table))}, {free_name(each.job.table)}"
                click.echo(f"what was measured of other files or settings is set aside: {aside}", err=True)

        def carry(job: Any, files: Any, check: Any) -> Outcome:
            own = jobs[job.profile.name]
            content = measure_models(job, job.profile.name in anew, files, check)
            sampled = samples_of(content, own.variants)
            result = result_of(content, sampled, own.variants[: len(variants)])
            result = with_layers(result, own.variants, content, sampled) if layers else result
            if output is None and job.profile.name in anew and job.table.is_file():
                job.table.replace(free_name(job.table))
            write_result(result, job.table)
            results[job.profile.name] = result
            return Outcome(job, 0.0)

        def tell(outcome: Outcome) -> None:
            if not as_json and csv_file != STDOUT:
                job = outcome.job
                print_result(results[job.profile.name], job.table, journal_path(job.table))

        outcomes = measure_all([each.job for each in jobs.values()], carry, tell)
    if as_json:
        found = [each.model_dump(mode="json", exclude_none=True) for each in results.values()]
        _options.print_json(found[0] if len(found) == len(jobs) == 1 else found)
    if csv_file is not None and results:
        write_csv(results.values(), csv_file)
    raise_failures(outcomes)
    _check(results, strict)


def _refuse_one_file(csv_file: Path | None, *written: Path) -> None:
    """Raise FbError where the CSV was to be written over the result or its samples."""
    for each in written:
        if csv_file is not None and csv_file.absolute() == each.absolute():
            raise FbError(f"--csv {csv_file} is where the result or its raw samples go: name another file")


def _check(results: "dict[str, Result]", strict: bool) -> None:
    """Raise MeasurementError where a model failed on a device, CheckError where --strict wants another verdict."""
    from fbprof.errors import MeasurementError

    for name, result in results.items():
        failed = [each for each in result.models if each.failed]
        if failed:
            more = f", and {len(failed) - 1} more" if len(failed) > 1 else ""
            raise MeasurementError(f"{name}: {failed[0].name} could not be measured: {failed[0].failed}{more}")
        if strict and result.verdict == "do not use":
            raise CheckError(f"verdict: do not use the result of {name}: {result.warnings[0]}")
