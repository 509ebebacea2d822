"""fbsearch zoo: the published networks, counted here beside what was published."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fbbase.commandline import Number, Whole
from fbsearch.commands._options import PATH, as_json, print_json

if TYPE_CHECKING:
    from fbspace.architecture import Architecture


class _Zoo(click.Group):
    """Tells who names a network where a command is expected how to see it."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        from fbspace.architecture import is_network

        if self.get_command(ctx, args[0]) is None and is_network(args[0]):
            raise click.UsageError(f"{args[0]} is a network; see it with: fbsearch zoo show {args[0]}", ctx)
        return super().resolve_command(ctx, args)


@click.group("zoo", cls=_Zoo, invoke_without_command=True)
@as_json
@click.pass_context
def command(context: click.Context, as_json: bool) -> None:
    r"""List the published networks, or show one layer by layer.

    Without a command, one line per network. Multiply-accumulates (MACs) are those of convolutions and fully connected
    layers. A star marks what was published without the last fully connected layer.

    \b
    Example:
      fbsearch zoo
      fbsearch zoo show fbnet-c
      fbsearch zoo show fbnet-a --width 0.35 --size 96 -o small.json
    """
    from fbspace.architecture import ZOO, load_architecture

    if context.invoked_subcommand is None:
        (print_json if as_json else _print_zoo)([summary(load_architecture(name)) for name in ZOO.names()])


@command.command("show")
@click.argument("name")
@click.option(
    "--width",
    type=Number(0, min_open=True),
    default=1.0,
    show_default=True,
    help="Multiply all widths but the number of classes, rounded to multiples of 8.",
)
@click.option("--size", type=Whole(1), help="Height and width of the images in pixels (default: its own).")
@click.option("-o", "--output", type=PATH, help="Write the network to an architecture file.")
@as_json
def show(name: str, width: float, size: int | None, output: Path | None, as_json: bool) -> None:
    """Show a network operator by operator, as it is or with other widths and another input size.

    NAME is a published network or an architecture file. What is written with -o can be exported, measured, verified
    and trained like any network.

    \b
    Example:
      fbsearch zoo show fbnet-c
      fbsearch zoo show fbnet-a --width 0.35 --size 96 -o small.json
      fbsearch zoo show runs/first/arch.json --json
    """  # noqa: D301 - click's own mark; only the commands of a folder are spared it
    from fbspace.architecture import load_architecture

    architecture = load_architecture(name)
    if width != 1 or size is not None:
        architecture = scaled(architecture, width, size)
    (print_json if as_json else _print_network)(network(architecture))
    if output is not None:
        architecture.save(output)


def scaled(architecture: "Architecture", width: float, size: int | None) -> "Architecture":
    """Return a network with other widths and another input size, and what it was made of."""
    from fbspace.architecture import Architecture
    from fbspace.listing import scale

    space = architecture.load_space()
    listing = scale(space, architecture.all_specs(space), width, size)
    sides = listing.space("").input_sides
    return Architecture(
        name=f"{architecture.name}-{sides}-{width:g}",
        network=listing,
        provenance={"source": f"{architecture.name}, widths times {width:g}, for {sides} pixels"},
    )


def summary(architecture: "Architecture") -> dict[str, Any]:
    """Return a network's counts and what its file says was published."""
    from fbspace.network import count_architecture

    space = architecture.load_space()
    return {
        "name": architecture.name,
        "space": "" if architecture.network else architecture.space,
        "input_size": space.input_size,
        "input": space.input_sides,
        **dataclasses.asdict(count_architecture(architecture)),
        "published": architecture.provenance.get("published", {}),
        "source": architecture.provenance.get("source", ""),
    }


def network(architecture: "Architecture") -> dict[str, Any]:
    """Return a network's counts, operator by operator as well."""
    from fbspace.network import count_spec

    space = architecture.load_space()
    layers: list[dict[str, Any]] = []
    for number, spec in enumerate(architecture.all_specs(space), start=1 - len(space.stem)):
        place = "stem" if number < 1 else str(number) if number <= len(space.layers) else "head"
        choice = architecture.choices[number - 1] if place.isdigit() else ""
        entry = {"layer": place, "choice": choice, "operator": spec.key()}
        layers.append(entry | dataclasses.asdict(count_spec(spec)))
    return {**summary(architecture), "layers": layers}


def _print_zoo(rows: list[dict[str, Any]]) -> None:
    width, side = (max(5, *(len(row[name]) for row in rows)) for name in ("name", "input"))
    click.echo(
        f"{'network':{width}}  {'space':6}  {'input':>{side}}  {'MACs':>9}  {'published':>9}  {'params':>7}  "
        f"{'published':>9}  ImageNet"
    )
    for row in rows:
        published = row["published"]
        top1, star = published.get("imagenet_top1_percent"), "*" if published.get("without_classifier") else ""
        click.echo(
            f"{row['name']:{width}}  {row['space'] or '-':6}  {row['input']:>{side}}  {row['macs'] / 1e6:7.1f} M  "
            f"{_million(published.get('macs_million'), star):>9}  {row['parameters'] / 1e6:5.2f} M  "
            f"{_million(published.get('parameters_million'), star):>9}  {'-' if top1 is None else f'{top1} %'}"
        )


def _print_network(result: dict[str, Any]) -> None:
    width = max(len(layer["operator"]) for layer in result["layers"])
    choice = max(10, *(len(layer["choice"]) for layer in result["layers"]))
    click.echo(f"{'layer':5}  {'choice':{choice}}  {'operator':{width}}  {'MACs':>9}  {'params':>8}")
    for layer in result["layers"]:
        click.echo(
            f"{layer['layer']:5}  {layer['choice'] or '-':{choice}}  {layer['operator']:{width}}  "
            f"{layer['macs'] / 1e6:7.2f} M  {layer['parameters'] / 1e3:6.1f} k"
        )
    click.echo(f"\n{result['name']}: {result['macs'] / 1e6:.1f} M MACs, {result['parameters'] / 1e6:.2f} M parameters")
    if result["source"]:
        click.echo(result["source"])


def _million(value: float | None, star: str) -> str:
    return "-" if value is None else f"{value:g} M{star}"
