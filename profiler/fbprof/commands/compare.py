"""fbprof compare: what differs between latency tables."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fbbase.commandline import Whole
from fbbase.errors import CheckError, FbError, UndecidedError
from fblut.views import VIEWS
from fbprof.commands import _complete as complete

if TYPE_CHECKING:
    from fblut.compare import Comparison
    from fblut.gate import Answer
    from fblut.table import Lut
    from fbspace.opspec import OpSpec


def percent(ctx: click.Context, parameter: click.Parameter, value: str | None) -> float | None:
    """Read `5%` or `5`."""
    if value is None:
        return None
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]+)?)\s*%?", value)
    if not match:
        raise click.BadParameter(f"{value!r} is not a share such as 5%")
    return float(match[1])


@click.command("compare")
@click.argument(
    "tables", nargs=-1, required=True, metavar="TABLE...", shell_complete=complete.tables, type=click.Path()
)
@click.option(
    "--baseline",
    type=click.Path(),
    shell_complete=complete.tables,
    help="What all others are held against; the first table unless given.",
)
@click.option("--networks", multiple=True, metavar="NAME", help="Networks to predict: `zoo`, a name or a .json file.")
@click.option("--most", type=Whole(0), default=10, show_default=True, help="How many differing operators.")
@click.option("--all", "every", is_flag=True, help="Every operator, not only those that differ most.")
@click.option(
    "--format",
    "format_name",
    type=click.Choice(VIEWS.names()),
    default="table",
    show_default=True,
    help="How it is written; csv has a line for every operator.",
)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@click.option("--plot", type=click.Path(path_type=Path), help="Draw a scatter of the latencies, .svg or .png.")
@click.option(
    "--fail-above",
    callback=percent,
    metavar="PERCENT",
    help="Exit with 1 where a table is slower than the baseline by more, in the mean or in one of --networks; with 4 "
    "where the tables cannot tell.",
)
def command(
    tables: tuple[str, ...],
    baseline: str | None,
    networks: tuple[str, ...],
    most: int,
    every: bool,
    format_name: str,
    as_json: bool,
    plot: Path | None,
    fail_above: float | None,
) -> None:
    r"""Compare latency tables of one space, operator by operator, or results of fbprof profile, model by model.

    A ratio is that of another table over the baseline: above one, the other is slower. It is not significant where it
    is one within its 95 % interval. The operators that differ most are those whose ratio is farthest from the
    geometric mean. Tables of one device are compared at the baseline's speed, by the reference workload that was timed
    with each, and the factor between their speeds is told. A reversal is a pair of operators that can stand in each
    other's place, of which each table has another one faster: a network that is best on one device is not on the other.

    \b
    Example:
      fbprof compare s8.csv iphonex.csv --networks zoo
      fbprof compare yesterday.csv today.csv --fail-above 5%
      fbprof compare s8.csv iphonex.csv pixel.csv --format html > compared.html
    """
    from fblut.check import known_space
    from fblut.compare import compare
    from fblut.reading import read_lut
    from fbprof.models.result import is_result
    from fbprof.report.plot import check_plot_path, plot_comparison

    if plot is not None:
        check_plot_path(plot)
    first = baseline or tables[0]
    others = [name for name in tables if name != first] if baseline else list(tables[1:])
    if not others:
        raise FbError(f"there is nothing to compare {first} with: name two tables or more")
    are_results = [is_result(Path(name)) for name in (first, *others)]
    if any(are_results):
        if not all(are_results):
            raise FbError(
                "tables are compared with tables and results of fbprof profile (.json) with results, not both"
            )
        if plot is not None or networks:
            raise FbError("--plot and --networks are for tables; these are results of fbprof profile")
        _compare_results(first, others, "json" if as_json else format_name, fail_above)
        return
    luts = {name: read_lut(Path(name)) for name in (first, *others)}
    space = known_space(luts[first].metadata)
    known = _networks(networks, luts[first])
    results = {name: compare(luts[first], luts[name], space, known) for name in others}
    for name, result in results.items():
        if known and not result.networks:
            raise FbError(
                f"no network of --networks has all its operators in {first} and {name} "
                f"(space {luts[first].metadata.space}): name networks of this space"
            )
    click.echo(_written(first, results, "json" if as_json else format_name, most, every))
    if plot is not None:
        plot_comparison(first, results, plot)
    if fail_above is not None:
        _check(first, luts, results, fail_above)


def _networks(names: Sequence[str], lut: "Lut") -> "dict[str, list[OpSpec]]":
    """Return the operators of networks by name; of the zoo those that the table may know."""
    from fbspace.architecture import ZOO, load_architecture

    found = {}
    for name in names:
        for one in ZOO.names() if name == "zoo" else [name]:
            specs = load_architecture(one).specs()
            if name != "zoo" or not lut.missing(specs):
                found[one] = specs
    if names and not found:
        raise FbError(
            f"the table has the operators of no published network (space {lut.metadata.space}): "
            "name networks of this space with --networks FILE.json"
        )
    return found


def _written(first: str, results: "dict[str, Comparison]", format_name: str, most: int, every: bool) -> str:
    from fblut.comparison_views import as_dict, sections_of

    values = {"baseline": first, "comparisons": [{"table": name} | as_dict(result) for name, result in results.items()]}
    sections = []
    for name, result in results.items():
        shown = list(result.operators) if every else result.most_different(most)
        title = "every operator" if every else f"the {len(shown)} operators that differ most"
        sections += sections_of(result, (first, name), shown, title)
    return VIEWS.load(format_name).render(f"comparison with {first}", sections, values)


def _compare_results(first: str, others: Sequence[str], format_name: str, fail_above: float | None) -> None:
    """Compare results of fbprof profile. Raises CheckError, UndecidedError as `_check` does."""
    from fbprof.models.compare import as_values, compare_results, judge_results, sections_of
    from fbprof.models.result import read_result

    results = {name: read_result(Path(name)) for name in (first, *others)}
    ratios = {name: compare_results(results[first], results[name]) for name in others}
    sections = [s for name in others for s in sections_of(results[first], results[name], (first, name), ratios[name])]
    values = [{"table": name} | as_values(results[first], results[name], ratios[name]) for name in others]
    answer = {"baseline": first, "comparisons": values}
    click.echo(VIEWS.load(format_name).render(f"comparison with {first}", sections, answer))
    if fail_above is not None:
        judged = {name: judge_results(results[first], results[name], ratios[name], fail_above) for name in others}
        _raise(first, judged, fail_above)


def _check(first: str, luts: "dict[str, Lut]", results: "dict[str, Comparison]", limit: float) -> None:
    """Raise CheckError where a table is slower by more than the limit, UndecidedError where that cannot be told."""
    from fblut.gate import judge

    _raise(first, {name: judge(luts[first], luts[name], result, limit) for name, result in results.items()}, limit)


def _raise(first: str, answers: "dict[str, Answer]", limit: float) -> None:
    slower = [f"{name} is {words}" for name, answer in answers.items() for words in answer.slower]
    if slower:
        raise CheckError(f"slower than {first} by more than {limit:g} %: {'; '.join(slower)}")
    undecided = [f"{name}: {words}" for name, answer in answers.items() for words in answer.undecided]
    if undecided:
        raise UndecidedError(
            f"cannot tell whether it is slower than {first} by more than {limit:g} %: {'; '.join(undecided)}; "
            "measure both again with nothing else running, longer (--max-time) or cooler"
        )
