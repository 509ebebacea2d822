"""fbprof predict: what a table says of a network that need not have been measured."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fbprof.commands import _complete as complete
from fbprof.commands import _options

if TYPE_CHECKING:
    from fblut.table import Lut, Prediction
    from fbprof.predict.prediction import NetworkPrediction, Origin, Part

SHOWN = 10


@click.command("predict")
@click.argument("network", metavar="NET")
@click.option(
    "--lut",
    type=_options.PATH,
    shell_complete=complete.tables,
    required=True,
    help="The latency table that predicts.",
)
@click.option("--shape", metavar="NxCxHxW", help="Shape of the input of a file.py:function, such as 1x3x224x224.")
@click.option("--strict", is_flag=True, help="Estimate nothing: an operator that the table lacks is an error.")
@_options.as_json
def command(network: str, lut: Path, shape: str | None, strict: bool, as_json: bool) -> None:
    r"""Predict a network's latency and its 95 % interval from a latency table; no device is needed.

    NET is the name of a published network (fbsearch zoo lists them), a file that fbsearch wrote (.json), or
    file.py:function, which returns an nn.Module, or a module and the shape of its input; the file is run.

    Operators that the table lacks are estimated from its rows and marked with ~. Their error is what the same
    estimation makes of rows that it has not seen, and is part of the interval.

    \b
    Example:
      fbprof predict fbnet-c --lut local.csv
      fbprof predict runs/first/arch.json --lut local.csv --strict
      fbprof predict net.py:small --lut local.csv --shape 1x3x160x160
    """
    from fblut.reading import read_lut

    table = read_lut(lut)
    predicted = _predict(network, shape, table, strict)
    if table.metadata.verdict == "do not use":
        why = "; ".join(table.metadata.warnings) or "it does not say why"
        click.echo(f"warning: table {lut} says of itself: do not use ({why}); measure it again", err=True)
    if as_json:
        _options.print_json(_as_dict(predicted, table, lut))
    else:
        _print(predicted, table, lut)


def _predict(name: str, shape: str | None, lut: "Lut", strict: bool) -> "NetworkPrediction":
    from fbprof.predict.prediction import predict
    from fbspace.architecture import load_architecture

    if ".py" in name:
        from fbexport.own import is_own, load_module, parse_shape
        from fbprof.predict.unmeasured import predict_module

        if is_own(name):
            asked = parse_shape(shape) if shape is not None else None
            module, stated = load_module(name)
            if (found := asked or stated) is None:
                raise click.UsageError(f"{name} does not say the shape of its input: add --shape 1x3x224x224")
            if len(found) != 4 or isinstance(found[0], tuple):
                raise click.UsageError(f"{name}: what is predicted takes one image, N, C, H, W")
            click.echo(f"running {name} once, to see what it computes …", err=True)
            return predict_module(name, module, found, lut, strict)
    if shape is not None:
        raise click.UsageError(f"--shape is of a file.py:function; network {name} has the size of its space")
    architecture = load_architecture(name)
    specs = architecture.specs()
    if strict or not lut.missing(specs):
        lut.require(specs, f"network {architecture.name}")
        return predict(architecture.name, lut, specs)
    from fbprof.predict.unmeasured import predict_operators

    click.echo(f"estimating what the table lacks from its {len(lut.rows)} rows …", err=True)
    return predict_operators(architecture.name, specs, lut)


def _print(predicted: "NetworkPrediction", lut: "Lut", path: Path) -> None:
    metadata, total, parts = lut.metadata, predicted.total, predicted.parts
    click.echo(f"{predicted.name}  {_time(total)}\n")
    for words in _counts(predicted):
        click.echo(words)
    listed = [(_count(part) + part.name, part.latency_us, _mark(part)) for part in parts[:SHOWN]]
    if rest := parts[SHOWN:]:
        listed.append((f"   {sum(part.count for part in rest)} others", sum(part.latency_us for part in rest), "  "))
    if predicted.network_us:
        listed.append(("   fixed cost of a network", predicted.network_us, "  "))
    click.echo(f"\n {'share':>6}  {'µs':>11}     operator")
    for name, latency_us, mark in listed:
        click.echo(f"{100 * latency_us / total.latency_us:5.1f} %  {mark}{latency_us:9.1f}  {name}")
    threads = f"{metadata.threads} thread{'s' * (metadata.threads != 1)}"
    stated = [f"{metadata.runtime} {metadata.runtime_version}", metadata.precision, threads, f"cores {metadata.cores}"]
    click.echo(f"\ntable {path}: {metadata.device} ({metadata.soc}), {', '.join(stated)}")
    click.echo(f"{metadata.origin} {metadata.measured_at}, verdict: {metadata.verdict or 'none'}")


def _counts(predicted: "NetworkPrediction") -> Iterator[str]:
    """Yield how many operators come from where, in lines."""
    told: list[tuple[Origin, str]] = [
        ("measured", "measured"),
        ("interpolated", "interpolated between rows (≈)"),
        ("fixed", "in the fixed cost of a network"),
        ("estimated", "estimated (~)"),
    ]
    counts = [f"{count} {words}" for origin, words in told if (count := predicted.operators(origin))]
    every = sum(part.count for part in predicted.parts)
    yield f"{every} operator{'s' * (every != 1)}: {', '.join(counts)}"
    if predicted.estimated_by is not None:
        share = 100 * predicted.estimated.latency_us / predicted.total.latency_us
        yield f"the estimated ones take {_time(predicted.estimated)}, {share:.1f} % of the latency,"
        yield f"by {predicted.estimated_by}"
    if beyond := sum(part.count for part in predicted.parts if part.is_beyond):
        yield f"{beyond} of them (~~) are larger than all that the table has, and may be further off"


def _mark(part: "Part") -> str:
    return {"interpolated": " ≈", "estimated": "~~" if part.is_beyond else " ~"}.get(part.origin, "  ")


def _count(part: "Part") -> str:
    return f"{part.count}x " if part.count > 1 else "   "


def _time(prediction: "Prediction") -> str:
    """Return a latency with its interval, in microseconds below one millisecond."""
    unit, scale, decimals = ("ms", 1e3, 3) if prediction.latency_us >= 1e3 else ("µs", 1.0, 1)
    latency = f"{prediction.latency_us / scale:.{decimals}f}"
    if prediction.interval is None:
        return f"{latency} {unit}, without an interval, as the table's rows have none"
    low, high = (f"{end / scale:.{decimals}f}" for end in prediction.interval)
    half = f"{(prediction.interval[1] - prediction.latency_us) / scale:.{decimals}f}"
    return f"{latency} ± {half} {unit} (95 % interval {low} to {high})"


def _as_dict(predicted: "NetworkPrediction", lut: "Lut", path: Path) -> dict[str, object]:
    total = predicted.total
    origins: list[Origin] = ["measured", "interpolated", "fixed", "estimated"]
    return {
        "network": predicted.name,
        "latency_us": total.latency_us,
        "ci_us": total.interval,
        "network_us": predicted.network_us,
        "operators": {origin: predicted.operators(origin) for origin in origins},
        "estimated_us": predicted.estimated.latency_us,
        "estimated_ci_us": predicted.estimated.interval,
        "estimated_by": predicted.estimated_by,
        "parts": [
            {
                "operator": part.name,
                "count": part.count,
                "latency_us": part.each.latency_us,
                "ci_us": part.each.interval,
                "share_percent": 100 * part.latency_us / total.latency_us,
                "origin": part.origin,
                "is_beyond": part.is_beyond,
            }
            for part in predicted.parts
        ],
        "table": {"file": str(path)} | lut.metadata.model_dump(mode="json"),
    }
