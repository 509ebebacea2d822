"""fbsearch: the command line. Each command is one file in fbsearch/commands/."""

import click

from fbbase import __version__
from fbbase.commandline import CommandFolder
from fbbase.commandline import main as run_tool
from fbsearch.machine.process import before_torch


@click.group(
    cls=CommandFolder,
    package="fbsearch.commands",
    extra="search",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, prog_name="fbsearch")
def fbsearch() -> None:
    r"""Search the best network for a device, given the device's latency table (FBNet, CVPR'19).

    \b
    Example:
      fbsearch spaces
      fbsearch run --lut local.csv -o runs/first
    """


def main() -> None:
    """Entry point of the console script."""
    before_torch()
    run_tool(fbsearch)
