"""fbprof compare: what differs between two latency tables."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from fblut.compare import Comparison


@click.command("compare")
@click.argument("first", type=click.Path(path_type=Path))
@click.argument("second", type=click.Path(path_type=Path))
@click.option("--most", type=click.IntRange(0), default=10, show_default=True, help="How many differing operators.")
@click.option("--all", "every", is_flag=True, help="Every operator, not only those that differ most.")
@click.option("--json", "as_json", is_flag=True, help="Print the comparison as JSON.")
def command(first: Path, second: Path, most: int, every: bool, as_json: bool) -> None:
    r"""Compare two latency tables of one space, operator by operator.

    A ratio is SECOND over FIRST: above one, SECOND is slower. The operators that differ most are those whose ratio is
    farthest from the geometric mean.

    \b
    Example:
      fbprof compare litert.csv onnxruntime.csv
    """
    from fblut.compare import compare
    from fblut.reading import read_lut

    result = compare(read_lut(first), read_lut(second))
    shown = list(result.operators) if every else result.most_different(most)
    if as_json:
        click.echo(json.dumps(_as_dict(result), indent=2))
        return
    click.echo(f"ratio = {second} over {first}")
    for name, (left, right) in result.differences.items():
        click.echo(f"  {name} differs: {left} | {right}")
    title = "every operator" if every else f"the {len(shown)} operators that differ most"
    click.echo(f"\n{title:58} {'first µs':>10} {'second µs':>10} {'ratio':>7}")
    for operator in shown:
        click.echo(f"{operator.key:58} {operator.first_us:10.1f} {operator.second_us:10.1f} {operator.ratio:7.2f}")
    correlation = "not defined" if result.spearman is None else f"{result.spearman:.3f}"
    click.echo(
        f"\n{len(result.operators)} operators in both, geometric mean of the ratios {result.geometric_mean:.3f}, "
        f"rank correlation {correlation}"
    )
    for which, keys in (("first", result.only_first), ("second", result.only_second)):
        if keys:
            click.echo(f"only in the {which} table: {', '.join(keys)}")


def _as_dict(result: "Comparison") -> dict[str, object]:
    return {
        "geometric_mean": result.geometric_mean,
        "spearman": result.spearman,
        "differences": result.differences,
        "operators": [
            {"key": o.key, "first_us": o.first_us, "second_us": o.second_us, "ratio": o.ratio} for o in result.operators
        ],
        "only_first": result.only_first,
        "only_second": result.only_second,
    }
