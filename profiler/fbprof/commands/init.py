"""fbprof init: three questions, and a settings file."""

from pathlib import Path

import click

from fbprof.commands import _complete as complete

FILE = Path("fbprof.toml")


@click.command("init")
@click.option("--device", shell_complete=complete.devices, help="Answers the first question: where to measure.")
@click.option("--space", shell_complete=complete.spaces, help="Answers the second: what to measure.")
@click.option("--runtime", shell_complete=complete.runtimes, help="Answers the third: what runs the models.")
@click.option("--force", is_flag=True, help="Write over an fbprof.toml that is there.")
def command(device: str | None, space: str | None, runtime: str | None, force: bool) -> None:
    r"""Ask which device, space and runtime, write them into fbprof.toml, and say what to do next.

    The settings hold in this folder, for every command; a flag comes before them.

    \b
    Example:
      fbprof init
      fbprof init --device local --space fbnet --runtime litert
    """
    from fbagents.connect import load_profile
    from fbagents.discovery import attached, known
    from fbbase.errors import FbError
    from fbbase.files import write_text
    from fbexport.runtimes import DEFAULT, RUNTIMES
    from fbspace.architecture import load_space_of
    from fbspace.space import SPACES

    if FILE.exists() and not force:
        raise FbError(f"{FILE} is there already; change it by hand, or write over it with --force")
    if device is None:
        try:
            phones = [phone.device for phone in attached() if phone.is_usable]
        except FbError:
            phones = []
        names = [*phones, *(profile.name for profile in known())]
        usual = names[0] if phones else "local"
        device = click.prompt(f"Which device? ({', '.join(names)}, or a .toml file)", default=usual)
    load_profile(str(device))
    if space is None:
        space = click.prompt(f"Which space? ({', '.join(SPACES.names())}, a network, or a file)", default="fbnet-tiny")
    load_space_of(str(space))
    if runtime is None:
        runtime = click.prompt(f"Which runtime? ({', '.join(RUNTIMES.names())})", default=DEFAULT)
    RUNTIMES.find(str(runtime))
    write_text(FILE, _content(str(device), str(space), str(runtime)))
    table = f"{Path(str(device)).stem.replace(':', '-')}.csv"
    click.echo(f"{FILE}: written; fbprof config shows what is set\nnext: fbprof measure -o {table}")


def _content(device: str, space: str, runtime: str) -> str:
    return f"""\
# Settings of fbprof in this folder: option = value, for every command that has the option. A flag comes first, then the
# environment (FBPROF_DEVICE=…), then this file, then ~/.config/fbprof/config.toml.

# Where: a name that `fbprof devices` lists, adb:SERIAL, or a .toml file (fbprof devices --template).
device = "{device}"

[measure]
# What is measured: a search space, or one network, by name or file (fbsearch spaces, fbsearch zoo).
space = "{space}"

# What runs the operators. (Model files run in the runtime of their format.)
runtime = "{runtime}"

# Minutes after which measuring stops, and the interval at which it stops before, in percent.
# max-time = 30
# ci = 1.0
"""
