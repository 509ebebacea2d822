"""Numbers separated by commas, as options of commands."""

import click


def numbers(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[float, ...] | None:
    """Return the numbers; None where there are none."""
    try:
        return None if value is None else tuple(float(part) for part in value.split(","))
    except ValueError:
        example = "15,20,25" if parameter.name == "targets" else "0.25,0.5,0.75"
        raise click.BadParameter(f"{value!r} is not a list of numbers such as {example}") from None
