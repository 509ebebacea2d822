"""fbsearch spaces: the search spaces, how large they are, and what their smallest and largest networks cost."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fbsearch.commands._options import PATH, as_json, print_json

if TYPE_CHECKING:
    from fbspace.space import Space


@click.group("spaces", invoke_without_command=True)
@as_json
@click.pass_context
def command(context: click.Context, as_json: bool) -> None:
    r"""List the search spaces, or begin and check one of your own.

    `operators` is the number of distinct operators to measure; smallest and largest are the networks with the fewest
    and the most multiply-accumulates, with the default head.

    \b
    Example:
      fbsearch spaces
      fbsearch spaces new mine.toml --from fbnet-cifar
      fbsearch spaces check mine.toml
    """
    from fbspace.space import SPACES, load_space

    if context.invoked_subcommand is None:
        (print_json if as_json else _print)([summarize(load_space(name)) for name in SPACES.names()])


@command.command("new")
@click.argument("file", type=PATH)
@click.option("--from", "origin", default="fbnet-tiny", show_default=True, help="Space to begin with.")
def new(file: Path, origin: str) -> None:
    """Write FILE (.toml), a space to be changed by hand, with comments.

    \b
    Example:
      fbsearch spaces new mine.toml
      fbsearch spaces new mine.toml --from fbnet-cifar
    """  # noqa: D301 - click's own mark; only the commands of a folder are spared it
    from fbbase.errors import FbError
    from fbbase.files import write_text
    from fbspace.space import SPACES

    if file.suffix != ".toml":
        raise FbError(f"{file}: the file of a space ends in .toml; that is how --space tells it from a name")
    if file.exists():
        raise FbError(f"{file} exists; choose another name, or remove it")
    write_text(file, SPACES.path(origin).read_text(encoding="utf-8"))
    click.echo(f"{file}: change it, then\n  fbsearch spaces check {file}\n  fbprof measure --space {file} -o mine.csv")


@command.command("check")
@click.argument("file")
@as_json
def check(file: str, as_json: bool) -> None:
    """Check a space, FILE or the name of one: build every operator, and print its numbers.

    One operator of every sort is written in every format, to say which formats take the space, and why others do not.
    Mistakes name the line; the exit code is then 2, as where no format takes the space.

    \b
    Example:
      fbsearch spaces check mine.toml
    """  # noqa: D301 - as above
    from fbexport.taking import refusals
    from fbspace.errors import SpaceError
    from fbspace.space import load_space

    space = load_space(file, build=True)
    refused = refusals(space.operators())
    able = [name for name, reasons in refused.items() if not reasons]
    summary = summarize(space)
    if as_json:
        print_json([summary | {"formats": able, "refused": {name: each for name, each in refused.items() if each}}])
    else:
        _print([summary])
        click.echo(f"\nformats that take it: {', '.join(able) or 'none'}")
        for reason in dict.fromkeys(reason for reasons in refused.values() for reason in reasons):
            click.echo(f"  {reason}")
    if not able:
        raise SpaceError(f"no format takes all operators of {space.name}: leave out those that are refused above")


def _print(summaries: list[dict[str, Any]]) -> None:
    width = max(5, *(len(s["name"]) for s in summaries))
    side = max(5, *(len(s["input"]) for s in summaries))
    ends = f"{'smallest':>20}  {'largest':>20}"
    click.echo(f"{'space':{width}}  {'input':>{side}}  layers  candidates  networks  operators  {ends}")
    for s in summaries:
        power, counts = f"10^{s['architectures_log10']:.1f}", (s["smallest"], s["largest"])
        small, large = (f"{c['macs'] / 1e6:.1f} M, {c['parameters'] / 1e6:.2f} M par" for c in counts)
        click.echo(
            f"{s['name']:{width}}  {s['input']:>{side}}  {s['layers']:6}  {s['candidates']:10}  {power:>8}  "
            f"{s['operators']:9}  {small:>20}  {large:>20}"
        )
    for s in summaries:
        click.echo(f"\n{s['name']}: {s['description']}")


def summarize(space: "Space") -> dict[str, Any]:
    """Return one space in numbers; `architectures_log10` is x where the space holds 10^x networks."""
    from fbspace.network import Complexity, count_spec

    def network(end: int, extreme: Callable[..., Complexity]) -> dict[str, int]:
        """Return the counts of the network that is smallest (end 0) or largest (end -1) in everything."""

        def only(options: Sequence[Any]) -> tuple[Any, ...]:
            return (options[end],) if options else ()

        at = space.cursors()[sorted(space.sizes or (space.input_size,))[end]]
        channels = only(space.last_widths)
        head = space.placed(space.heads[space.head_channels], at[-1].copy(*channels))
        counts = [count_spec(spec) for spec in [*space.placed(space.stem, at[0]), *head]]
        for number, layer in enumerate(space.layers, start=1):
            one = replace(layer, ins=only(layer.ins), expansions=only(layer.expansions), widths=only(layer.widths))
            counts.append(extreme(map(count_spec, space.options(one, at[number])), key=lambda c: c.macs))
        return {"macs": sum(c.macs for c in counts), "parameters": sum(c.parameters for c in counts)}

    return {
        "name": space.name,
        "description": space.description,
        "input_size": space.input_size,
        "input": space.input_sides,
        "layers": len(space.layers),
        "candidates": max(len(layer.candidates) for layer in space.layers),
        "architectures_log10": round(space.networks_log10, 2),
        "operators": len(space.operators()),
        "smallest": network(0, min),
        "largest": network(-1, max),
    }
