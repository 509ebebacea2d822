"""Options that several commands have: of a table that predicts, and of the device it is held against."""

from pathlib import Path

import click

from fbprof import complete

lut = click.option(
    "--lut",
    type=click.Path(path_type=Path),
    shell_complete=complete.tables,
    required=True,
    help="The latency table that predicts.",
)
device = click.option(
    "--device", default="local", show_default=True, shell_complete=complete.devices, help="As for fbprof measure."
)
