"""fbprof agent: the native agent's program."""

from pathlib import Path

import click


@click.group("agent")
def command() -> None:
    r"""Build the native agent, which measures where there is no Python.

    \b
    Example:
      fbprof agent build aarch64-linux -o agent
    """


@command.command("build")
@click.argument("target")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="File to write (default: only the cache's).")
def build(target: str, output: Path | None) -> None:
    """Build the native agent for TARGET: x86_64-linux, aarch64-linux or aarch64-macos.

    Takes this machine's C compiler for this machine, aarch64-linux-gnu-gcc if it is there, and else the compiler that
    pip install 'fbnet-lab[native]' brings. A program that was built before is taken from the cache. Prints its path.

    \b
    Example:
      fbprof agent build x86_64-linux
      fbprof agent build aarch64-linux -o agent
    """  # noqa: D301 - click's own mark; only the commands of a folder are spared it
    from fbagents import native
    from fbbase.files import atomic_write

    program = native.build(target)
    if output is not None:
        with atomic_write(output) as file:
            file.write(program.read_bytes())
        output.chmod(output.stat().st_mode | 0o111)
        program = output
    click.echo(program)
