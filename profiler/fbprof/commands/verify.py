"""fbprof verify: a network's predicted latency against the measured one."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fbbase.commandline import Number, Whole
from fbprof.commands import _options

if TYPE_CHECKING:
    from fblut.table import Lut, Prediction
    from fbprof.predict.verify import Verification
    from fbspace.architecture import Architecture


@click.command("verify")
@click.argument("architecture")
@_options.table_and_device
@_options.timing("rounds", type=Whole(2), default=30, help="Visits to the network.")
@_options.seed
@click.option(
    "--within",
    metavar="PERCENT",
    type=Number(min=0),
    help="Exit 1 if prediction and measurement differ by more.",
)
@_options.as_json
def command(
    architecture: str,
    lut: Path,
    device: str,
    agent: str | None,
    binary: Path | None,
    binary_args: str | None,
    rounds: int,
    seed: int,
    within: float | None,
    as_json: bool,
) -> None:
    r"""Measure a whole network and hold the table's prediction, its fixed cost and the sum of its rows, against it.

    ARCHITECTURE is a file that fbsearch wrote, or a published network by name (fbsearch zoo lists them). The network
    runs under the table's own conditions: runtime, precision, threads and cores. Its operators are timed again in
    between, which tells an error of the table from a device that has become slower or faster since.

    \b
    Example:
      fbprof verify fbnet-a --lut local.csv
      fbprof verify runs/first/arch.json --lut local.csv --within 10
    """
    from fbagents.connect import load_profile
    from fbbase.errors import CheckError
    from fblut.reading import read_lut
    from fbprof.predict.verify import verify
    from fbspace.architecture import load_architecture

    network = load_architecture(architecture)
    table = read_lut(lut)
    profile = _options.with_binary(load_profile(device), agent, binary, binary_args)
    result = verify(network, table, profile, rounds, seed)
    if table.metadata.soc not in (result.soc, *table.metadata.system.split()):  # once most phones' was aarch64
        click.echo(f"warning: the table was measured on {table.metadata.soc}, this is {result.soc}", err=True)
    if as_json:
        click.echo(json.dumps(_as_dict(network, result), indent=2))
    else:
        _print(network, table, result, {"network": architecture, "table": str(lut)})
    off_percent = result.result.table_error_percent
    if within is not None and abs(off_percent) > within:
        raise CheckError(f"prediction and measurement differ by {off_percent:+.1f} %, over {within:g} %")


def _print(network: "Architecture", lut: "Lut", verification: "Verification", files: dict[str, str]) -> None:
    from fblut.listing import list_layers

    result = verification.result
    click.echo(f"{network.name}, space {network.space}\n")
    click.echo(list_layers(network, lut))
    threads = f"{lut.metadata.threads} thread{'s' * (lut.metadata.threads != 1)}"
    visits = f"{verification.visits} visits"
    if result.ci_us is None:
        interval = f"no interval, as {visits} are too few: give more --rounds"
    else:
        interval = f"95 % interval {result.ci_us[0] / 1e3:.3f} to {result.ci_us[1] / 1e3:.3f} ms, {visits}"
    click.echo(
        f"\npredicted  {result.table.latency_us / 1e3:8.3f} ms  {_interval(result.table)}"
        f"\nmeasured   {result.measured_us / 1e3:8.3f} ms  {interval}, {lut.metadata.runtime}, {threads}"
        f"\ndifference {result.table_error_percent:+8.1f} %   (predicted against measured)"
    )
    if verification.speed_percent is not None:
        click.echo(
            f"\nnow        {result.predicted.latency_us / 1e3:8.3f} ms  predicted at the device's present speed"
            f"\ndifference {result.error_percent:+8.1f} %   (that against measured: the error without drift)"
            f"\ndrift      {verification.speed_percent:+8.1f} %   (its operators, timed beside it, against the table)"
        )
    for name, value in network.provenance.items():
        if name.endswith("_accuracy_percent"):
            click.echo(f"{name.removesuffix('_percent').replace('_', ' ')}: {value:.1f} %")
    click.echo("files: " + ", ".join(f"{name} {path}" for name, path in files.items()))


def _interval(predicted: "Prediction") -> str:
    if predicted.interval is None:
        return "sum of the table's rows"
    low, high = predicted.interval
    return f"95 % interval {low / 1e3:.3f} to {high / 1e3:.3f} ms, by the table"


def _as_dict(network: "Architecture", verification: "Verification") -> dict[str, object]:
    result, is_scaled = verification.result, verification.speed_percent is not None
    return {
        "network": network.name,
        "predicted_us": result.table.latency_us,
        "predicted_ci_us": (result.table.ci_low_us, result.table.ci_high_us),
        "measured_us": result.measured_us,
        "measured_ci_us": result.ci_us,
        "difference_percent": result.table_error_percent,
        "predicted_now_us": result.predicted.latency_us if is_scaled else None,
        "difference_now_percent": result.error_percent if is_scaled else None,
        "drift_percent": verification.speed_percent,
        "rounds": verification.visits,
    }
