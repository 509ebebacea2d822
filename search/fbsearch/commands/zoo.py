"""fbsearch zoo: the published networks, counted here beside what was published."""

import json
from typing import Any

import click


@click.command()
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(name: str | None, as_json: bool) -> None:
    r"""List the published networks, or show one layer by layer.

    NAME is a published network or an architecture file. Multiply-accumulates (MACs) are those of convolutions and
    fully connected layers.

    \b
    Example:
      fbsearch zoo
      fbsearch zoo fbnet-c
      fbsearch zoo runs/first/arch.json --json
    """
    from fbspace.architecture import ZOO

    result: Any = network(name) if name is not None else [summary(entry) for entry in ZOO.names()]
    if as_json:
        click.echo(json.dumps(result, indent=2, ensure_ascii=False))
    elif name is not None:
        _print_network(result)
    else:
        _print_zoo(result)


def summary(name: str) -> dict[str, Any]:
    """Return a network's counts and what its file says was published."""
    from fbspace.architecture import load_architecture
    from fbspace.network import count_architecture

    architecture = load_architecture(name)
    count = count_architecture(architecture)
    return {
        "name": architecture.name,
        "space": architecture.space,
        "macs": count.macs,
        "parameters": count.parameters,
        "published": architecture.provenance.get("published", {}),
        "source": architecture.provenance.get("source", ""),
    }


def network(name: str) -> dict[str, Any]:
    """Return a network's counts, operator by operator as well."""
    from fbspace.architecture import load_architecture
    from fbspace.network import count_spec

    architecture = load_architecture(name)
    space = architecture.load_space()
    layers: list[dict[str, Any]] = []
    for number, spec in enumerate(architecture.specs(space), start=1 - len(space.stem)):
        count = count_spec(spec)
        place = "stem" if number < 1 else str(number) if number <= len(space.layers) else "head"
        choice = architecture.choices[number - 1] if place.isdigit() else ""
        layers.append(
            {
                "layer": place,
                "choice": choice,
                "operator": spec.key(),
                "macs": count.macs,
                "parameters": count.parameters,
            }
        )
    return {**summary(name), "layers": layers}


def _print_zoo(rows: list[dict[str, Any]]) -> None:
    click.echo(
        f"{'network':14}  {'space':10}  {'MACs':>9}  {'published':>9}  {'params':>7}  {'published':>9}  ImageNet"
    )
    for row in rows:
        published = row["published"]
        top1 = published.get("imagenet_top1_percent")
        click.echo(
            f"{row['name']:14}  {row['space']:10}  {row['macs'] / 1e6:7.1f} M  "
            f"{_million(published.get('macs_million')):>9}  {row['parameters'] / 1e6:5.2f} M  "
            f"{_million(published.get('parameters_million')):>9}  {'-' if top1 is None else f'{top1} %'}"
        )


def _print_network(result: dict[str, Any]) -> None:
    width = max(len(layer["operator"]) for layer in result["layers"])
    click.echo(f"{'layer':5}  {'choice':10}  {'operator':{width}}  {'MACs':>9}  {'params':>8}")
    for layer in result["layers"]:
        click.echo(
            f"{layer['layer']:5}  {layer['choice'] or '-':10}  {layer['operator']:{width}}  "
            f"{layer['macs'] / 1e6:7.2f} M  {layer['parameters'] / 1e3:6.1f} k"
        )
    click.echo(f"\n{result['name']}: {result['macs'] / 1e6:.1f} M MACs, {result['parameters'] / 1e6:.2f} M parameters")
    if result["source"]:
        click.echo(result["source"])


def _million(value: float | None) -> str:
    return "-" if value is None else f"{value:g} M"
