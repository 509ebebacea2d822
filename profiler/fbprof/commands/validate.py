"""fbprof validate: a table's predictions for networks it has not seen, against those networks measured."""

from dataclasses import asdict
from pathlib import Path
from statistics import fmean, median
from typing import TYPE_CHECKING

import click

from fbbase.commandline import Number, Whole
from fbprof.commands import _options

if TYPE_CHECKING:
    from fblut.table import Lut
    from fbprof.journal.journal import JournalContent
    from fbprof.predict.validate import Validation


@click.command("validate")
@_options.table_and_device
@click.option(
    "--networks", type=Whole(1), default=100, show_default=True, help="Random networks beside published ones."
)
@click.option(
    "--operators",
    type=Whole(0),
    default=40,
    show_default=True,
    help="Random operators between the points of a table that is a grid.",
)
@_options.timing("rounds", default=20, help="Visits to everything.")
@_options.max_time
@_options.seed
@click.option(
    "--exclude",
    type=_options.PATH,
    help="Measured networks that are not to be drawn: those that fbprof fit made the table of.",
)
@_options.fresh
@click.option("--within", metavar="PERCENT", type=Number(min=0), help="Exit 1 if the mean error is larger.")
@_options.as_json
@click.option("--plot", type=_options.PATH, help="Draw predicted against measured: a .png or .svg file.")
@click.option("-o", "--output", type=_options.PATH, help="The networks as CSV.  [default: TABLE.validation.csv]")
def command(
    lut: Path,
    device: str,
    agent: str | None,
    binary: Path | None,
    binary_args: str | None,
    networks: int,
    operators: int,
    rounds: int,
    max_time_min: float,
    seed: int,
    exclude: Path | None,
    fresh: bool,
    within: float | None,
    as_json: bool,
    plot: Path | None,
    output: Path | None,
) -> None:
    r"""Measure networks that a table has not seen and tell how well the sums of its rows predict them.

    Random networks and the published ones of the space, none of which calibrated the table, take turns with reference
    operators in random rounds, under the table's own conditions: runtime, precision, threads and cores. The operators
    tell how much slower the device is than when the table was measured; the networks' own noise tells what error no
    table could avoid. Of a table that is a grid, operators between its points are timed too. Samples go to a journal
    beside the output; after Ctrl-C, a crash or a power cut the same command continues there.

    \b
    Example:
      fbprof validate --lut local.csv --networks 100 --plot local.svg
    """
    from fbagents.connect import load_profile
    from fbbase.errors import CheckError
    from fbbase.files import refuse_stream
    from fblut.reading import read_lut
    from fbprof.journal.journal import journal_path
    from fbprof.measure.run import collect, keeping
    from fbprof.plan.networks_file import read_networks
    from fbprof.predict.validate import draw_between, draw_candidates, evaluate, validation_plan, write_validation
    from fbprof.report.plot import check_plot_path, plot_results
    from fbspace.architecture import load_space_of

    if plot is not None:
        check_plot_path(plot)
    output = output or lut.with_suffix(".validation.csv")
    refuse_stream(output)
    profile = _options.with_binary(load_profile(device), agent, binary, binary_args)
    table = read_lut(lut)
    space = load_space_of(table.metadata.space)
    excluded = [measured.choices for measured in read_networks(exclude, space)] if exclude else []
    is_unseen = table.metadata.origin != "fitted" or exclude is not None
    if not is_unseen:
        click.echo(
            "warning: the table does not say which networks it is of; to keep them out, --exclude FILE", err=True
        )
    candidates = draw_candidates(table, space, networks, seed, excluded)
    random_networks = sum(not candidate.is_published for candidate in candidates)
    if random_networks < networks:
        click.echo(f"space {space.name} has only {random_networks} more networks, not {networks}", err=True)
    between = draw_between(table, space, operators, seed)
    plan = validation_plan(table, space, profile, candidates, rounds, max_time_min, seed, between)
    with keeping(journal_path(output)):
        content = collect(plan, profile, journal_path(output), fresh)
    _warn_of_differences(table, content)
    result = evaluate(content, table, candidates, between)
    write_validation(output, table.metadata.space, result, {"device": plan.device, "runtime": plan.runtime})
    files = {"networks": str(output), "journal": str(journal_path(output))}
    if plot is not None:
        rho = "" if result.figures.spearman is None else f", ρ {result.figures.spearman:.3f}"
        title = f"{plan.device}, {plan.runtime}: MAPE {result.figures.mape_percent:.1f} %{rho}"
        plot_results(result.results, title, plot)
        files["plot"] = str(plot)
    if as_json:
        _options.print_json(_as_dict(result, files))
    else:
        _print(result, table, is_unseen, files)
    if within is not None and result.figures.mape_percent > within:
        raise CheckError(f"the mean error is {result.figures.mape_percent:.1f} %, over {within:g} %")


def _warn_of_differences(table: "Lut", content: "JournalContent") -> None:
    hello, then = content.sessions[-1].hello, table.metadata
    here = {"soc": hello.soc, "runtime_version": hello.runtimes.get(then.runtime, "unknown")}
    if hello.device_model is not None:
        here["device_model"] = hello.device_model
    for field, now in here.items():
        before = getattr(then, field)
        if before not in (None, "unknown", now, *then.system.split()):  # once most phones' soc was aarch64
            click.echo(f"warning: {field.replace('_', ' ')} was {before} for the table, is {now} now", err=True)


def _print(result: "Validation", table: "Lut", is_unseen: bool, files: dict[str, str]) -> None:
    figures, metadata = result.figures, table.metadata
    published = [r for r in result.results if r.candidate.is_published]
    unseen = ", none of which calibrated the table" if is_unseen else ""
    click.echo(
        f"{len(result.results) - len(published)} random and {len(published)} published networks of space "
        f"{metadata.space} on {metadata.device}, {metadata.runtime}{unseen}\n"
    )
    twice = "" if figures.noise_floor_percent is None else f"measured twice {figures.noise_floor_percent:6.2f} %"
    twice_rho = "" if figures.noise_spearman is None else f"measured twice {figures.noise_spearman:7.3f}"
    side = {True: "slow", False: "fast"}[figures.bias_percent > 0]
    lines = [
        ("mean error (MAPE)", figures.mape_percent, "%", twice),
        ("median error", figures.median_percent, "%", ""),
        ("95 % are within", figures.p95_percent, "%", ""),
        ("bias", figures.bias_percent, "%", f"predicted too {side}"),
        ("within the predicted interval", figures.coverage_percent, "%", "95 % expected"),
        ("rank correlation, Spearman", figures.spearman, "", twice_rho),
        ("rank correlation, Kendall", figures.kendall, "", ""),
    ]
    for name, value, unit, beside in lines:
        number = f"{'-':>7}" if value is None else f"{value:7.2f} {unit}" if unit else f"{value:8.3f}"
        click.echo(f"{name:30} {number:10} {beside}".rstrip())
    if result.speed_percent is None:
        click.echo("\nthe table has no operator timed alone: what the device's speed has changed is part of the error")
    else:
        slower = "slower" if result.speed_percent >= 0 else "faster"
        click.echo(
            f"\nthe device is {abs(result.speed_percent):.1f} % {slower} now than when the table was measured "
            f"({result.references} operators); predictions are at the present speed, as the table stands the mean "
            f"error is {figures.unscaled_mape_percent:.2f} %"
        )
    if result.between:
        errors = sorted(abs(o.error_percent) for o in result.between)
        worst = max(result.between, key=lambda o: abs(o.error_percent))
        click.echo(
            f"{len(errors)} operators between the grid's points, timed alone: mean error {fmean(errors):.2f} %, median "
            f"{median(errors):.2f} %, bias {fmean(o.error_percent for o in result.between):+.2f} %; furthest off: "
            f"{worst.spec.key()} {worst.error_percent:+.1f} %"
        )
    for r in published:
        click.echo(
            f"  {r.candidate.name:14} predicted {r.predicted.latency_us / 1e3:8.3f} ms, measured "
            f"{r.measured_us / 1e3:8.3f} ms, {r.error_percent:+.1f} %"
        )
    for name, reason in result.failed.items():
        click.echo(f"  failed: {name}: {reason}")
    if result.unmeasured:
        click.echo(f"  {result.unmeasured} networks not measured: the time was up; the same command continues")
    click.echo(f"verdict: {result.additivity}")
    click.echo("files: " + ", ".join(f"{name} {path}" for name, path in files.items()))


def _as_dict(result: "Validation", files: dict[str, str]) -> dict[str, object]:
    return {
        "is_additive": result.is_additive,
        "verdict": result.additivity,
        "networks": len(result.results),
        **asdict(result.figures),
        **{name: getattr(result, name) for name in ("speed_percent", "references", "failed", "unmeasured")},
        "results": [
            {name: getattr(r.candidate, name) for name in ("name", "choices", "head_channels")}
            | {
                "table_us": r.table.latency_us,
                "predicted_us": r.predicted.latency_us,
                "predicted_ci_us": r.predicted.interval,
                "measured_us": r.measured_us,
                "measured_ci_us": r.ci_us,
                "error_percent": r.error_percent,
            }
            for r in result.results
        ],
        "operators_between": [
            {"key": o.spec.key(), "predicted_us": o.predicted_us, "measured_us": o.measured_us} for o in result.between
        ],
        "files": files,
    }
