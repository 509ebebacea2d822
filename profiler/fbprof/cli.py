"""fbprof: the command line. Each command is one file in fbprof/commands/."""

import click

from fbbase import __version__
from fbbase.commandline import CommandFolder
from fbbase.commandline import main as run_tool


@click.group(
    cls=CommandFolder,
    package="fbprof.commands",
    has_settings=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, prog_name="fbprof")
def fbprof() -> None:
    r"""Measure models, and neural-network operators, on a real device: latencies and tables that can be trusted.

    \b
    Example:
      fbprof profile detector.onnx --device galaxy-s8 --layers
      fbprof ab old.tflite new.tflite --device galaxy-s8 --fail-above 3%
      fbprof measure --device local --space fbnet --runtime litert -o local.csv
      fbprof compare a.csv b.csv
      fbprof verify fbnet-a --lut local.csv
    """


def main() -> None:
    """Entry point of the console script."""
    run_tool(fbprof)
