"""What several commands have: options, numbers separated by commas, and JSON as their answer."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click

from fbbase.commandline import Whole

PATH = click.Path(path_type=Path)


def one_of(flag: str, values: Iterable[str], help: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return an option that takes one of several values: the first, unless another is given."""
    first, *others = values
    return click.option(flag, type=click.Choice([first, *others]), default=first, show_default=True, help=help)


device = click.option("--device", default="auto", show_default=True, help="Where to compute: auto, cpu, cuda, cuda:1.")
amp = one_of("--amp", ["none", "bf16", "fp16"], "Mixed precision.")
threads = click.option("--threads", type=Whole(min=1), help="CPU threads.  [default: all cores]")
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def print_json(answer: Any) -> None:
    """Print a command's answer as JSON."""
    click.echo(json.dumps(answer, indent=2, ensure_ascii=False))


def numbers(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[float, ...] | None:
    """Return the numbers of an option; None where there are none."""
    try:
        return None if value is None else tuple(float(part) for part in value.split(","))
    except ValueError:
        example = "15,20,25" if parameter.name == "targets" else "0.25,0.5,0.75"
        raise click.BadParameter(f"{value!r} is not a list of numbers such as {example}") from None
