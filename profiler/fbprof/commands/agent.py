"""fbprof agent: the native agent's program, and the bundle that runs it on devices."""

import json
from pathlib import Path

import click

from fbprof.commands import _complete, _options


@click.group("agent")
def command() -> None:
    r"""Build the native agent, which measures where there is no Python.

    \b
    Example:
      fbprof agent build aarch64-linux -o agent
      fbprof agent bundle aarch64-linux
    """


@command.command("build")
@click.argument("target")
@click.option("-o", "--output", type=_options.PATH, help="File to write (default: only the cache's).")
def build(target: str, output: Path | None) -> None:
    """Build the native agent for TARGET: x86_64-linux, aarch64-linux or aarch64-macos.

    Takes this machine's C compiler for this machine, aarch64-linux-gnu-gcc if it is there, and else the compiler that
    pip install 'fbnet-lab[native]' brings. A program that was built before is taken from the cache. Prints its path.

    \b
    Example:
      fbprof agent build x86_64-linux
      fbprof agent build aarch64-linux -o agent
    """  # noqa: D301 - click's own mark; only the commands of a folder are spared it
    from fbagents.native import build as native
    from fbbase.files import atomic_write

    program = native.build(target)
    if output is not None:
        with atomic_write(output) as file:
            file.write(program.read_bytes())
        output.chmod(output.stat().st_mode | 0o111)
        program = output
    click.echo(program)


@command.command("bundle")
@click.argument("target")
@click.option("-o", "--output", type=_options.PATH, help="Archive (.tar.xz) to write, for another machine.")
@click.option("--from", "source", type=_options.PATH, help="Archive to take the bundle from, not built here.")
@click.option(
    "--runtime",
    "asked",
    multiple=True,
    shell_complete=_complete.runtimes,
    help="Runtime to be in it; repeatable.  [default: litert, onnxruntime]",
)
@_options.as_json
def bundle(target: str, output: Path | None, source: Path | None, asked: tuple[str, ...], as_json: bool) -> None:
    """Make the bundle for TARGET, aarch64-linux or x86_64-linux: the agent and all it needs on a device.

    It holds the agent, runtimes, the loader and the C library, so that the device's own do not matter. Measuring makes
    it by itself, with what --runtime asks for; this command shows it, and carries it to a machine that has no compiler
    or no network. Fetches the runtimes of the versions installed here, and keeps what it made. An archive holds
    programs that will run on your devices: take it only from where you trust.

    \b
    Example:
      fbprof agent bundle aarch64-linux
      fbprof agent bundle aarch64-linux --runtime executorch
      fbprof agent bundle aarch64-linux -o bundle.tar.xz
      fbprof agent bundle aarch64-linux --from bundle.tar.xz
    """  # noqa: D301 - click's own mark; only the commands of a folder are spared it
    from fbagents.native import archive as bundle_archive
    from fbagents.native import bundle
    from fbexport.runtimes import RUNTIMES, native_libraries

    for name in asked:
        if RUNTIMES.find(name).native is None:
            raise click.UsageError(f"--runtime {name}: the native agent runs {', '.join(native_libraries())}")
    made = bundle_archive.bring(target, source, asked) if source is not None else bundle.build(target, asked)
    size = sum((made.folder / name).stat().st_size for name in made.files)
    result = {"folder": str(made.folder), "digest": made.digest, "files": len(made.files), "mb": round(size / 1e6, 2)}
    if output is not None:
        result |= {"archive": str(output), "archive_mb": round(bundle_archive.write(made, output) / 1e6, 2)}
    if as_json:
        click.echo(json.dumps(result, indent=2))
        return
    for name, value in result.items():
        click.echo(f"{name:<10} {value}")
