"""fbprof fit: a latency table from measured whole networks."""

import functools
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fbbase.commandline import echo_beside
from fbprof.commands import _options

if TYPE_CHECKING:
    from fblut.table import Lut
    from fbprof.borrowed.regression import HeldOut


@click.command("fit")
@click.argument("networks", type=_options.PATH)
@_options.measured_elsewhere
@click.option("--device", help="What they ran on.  [default: the file's name without _networks]")
@click.option("--precision", default="float32", show_default=True, help="Precision of the models.")
@_options.timing("threads")
@_options.timing("seed", help="Of the held-out fifth.")
@_options.as_json
def command(
    networks: Path, space: str, output: Path, device: str | None, seed: int, as_json: bool, **context: Any
) -> None:
    r"""Make a latency table of measured whole networks, where single operators cannot be timed.

    NETWORKS is a CSV file in the order of measurement: a candidate of every layer (columns op0, op1, ...) and the
    network's latency (latency_us or latency_ms). A robust regression tells operators and the device's drift apart; a
    fifth of the networks is held out to say how well the others predict it, with and without drift.

    \b
    Example:
      fbprof fit phone_networks.csv --space fbnet-cifar -o phone.csv
    """
    # before numpy is loaded: on a busy machine its threads wait for each other, twenty times longer than one works
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from fblut.writing import write_lut
    from fbprof.borrowed.fit import fit
    from fbprof.plan.networks_file import read_networks
    from fbspace.space import load_space

    loaded = load_space(space)
    metadata = {"space": space, "device": device or networks.stem.removesuffix("_networks")}
    metadata |= {"runtime_version": "unknown"} | context
    lut, evaluation = fit(read_networks(networks, loaded), loaded, metadata, seed)
    write_lut(lut, output)
    failed = [key for key, row in lut.rows.items() if row.status == "failed"]
    if failed:
        click.echo(
            f"warning: {len(failed)} operators are in none of the networks, e.g. {failed[0]}; a search needs all of "
            "its space: add networks that have them",
            err=True,
        )
    if as_json:
        _options.print_json(_as_dict(lut, evaluation, output))
    else:
        _print(lut, evaluation, output)


def _print(lut: "Lut", evaluation: "HeldOut", output: Path) -> None:
    say = functools.partial(echo_beside, output)
    metadata = lut.metadata
    operators = sum(row.status == "ok" for row in lut.rows.values())
    near_zero = sum("0 by these networks" in row.notes for row in lut.rows.values())
    say(
        f"{output}: {operators} operators and a fixed cost of {metadata.network_us / 1e3:.3f} ms from "
        f"{metadata.calibration_networks} networks" + (f"; {near_zero} cannot be told from 0" if near_zero else "")
    )
    say(f"held out: {evaluation.networks} networks, predicted by a table of the others")
    for name in ("static", "drift"):
        mape = getattr(evaluation, f"mape_percent_{name}")
        rho = getattr(evaluation, f"spearman_{name}")
        label = "with drift" if name == "drift" else name
        say(f"  {label:10}  mean error {mape:5.2f} %   rank correlation {'-' if rho is None else f'{rho:.3f}'}")
    gain = evaluation.mape_percent_static - evaluation.mape_percent_drift
    if metadata.drift_window_visits:
        say(
            f"drift: the device's speed wandered by {metadata.drift_range_percent:.1f} %, which explains "
            f"{100 * gain / evaluation.mape_percent_static:.0f} % of the static error and was taken out"
        )
    else:
        say("drift: it explains nothing here")


def _as_dict(lut: "Lut", evaluation: "HeldOut", output: Path) -> dict[str, object]:
    held_out = asdict(evaluation)
    return {
        "table": str(output),
        "networks": lut.metadata.calibration_networks,
        "held_out_networks": held_out.pop("networks"),
        **held_out,
        "operators": sum(row.status == "ok" for row in lut.rows.values()),
        **lut.metadata.model_dump(include={"network_us", "drift_window_visits", "drift_range_percent"}),
    }
