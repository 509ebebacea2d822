"""fbprof config: every setting, and where it comes from."""

import json
from dataclasses import asdict
from pathlib import Path

import click


@click.command("config")
@click.option("--constraints", is_flag=True, help="Print where the file of tested versions is, for pip, and stop.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@click.pass_context
def command(ctx: click.Context, constraints: bool, as_json: bool) -> None:
    r"""Show what is set for options without a flag, and where.

    A flag comes before the environment (FBPROF_MEASURE_DEVICE for one command, FBPROF_DEVICE for all), that before
    fbprof.toml in this folder, and that before the user's file. What is shown is what a command would take now.

    With --constraints it prints the path of a file with the version of every package that this one was tested with.

    \b
    Example:
      fbprof config
      FBPROF_DEVICE=pixel-3 fbprof config
      pip install -c "$(fbprof config --constraints)" "fbnet-lab[search]"
    """
    from importlib.resources import files

    from fbbase.settings import files_of, settings_of

    if constraints:
        folder = Path(str(files("fbbase")))
        own = folder / "constraints.txt"
        click.echo(own if own.is_file() else folder.parents[1] / "constraints.txt")  # that of a clone
        return
    assert ctx.parent is not None
    group = ctx.parent.command
    assert isinstance(group, click.Group)
    commands = {name: each for name in group.list_commands(ctx.parent) if (each := group.get_command(ctx.parent, name))}
    settings = settings_of(str(group.name), commands)
    read = {str(path): path.is_file() for path in files_of(str(group.name))}
    if as_json:
        click.echo(json.dumps({"files": read, "settings": list(map(asdict, settings))}, indent=2, ensure_ascii=False))
        return
    for path, exists in read.items():
        click.echo(f"{path}: {'read' if exists else 'not there'}")
    if not settings:
        click.echo("nothing is set; fbprof init writes a first fbprof.toml")
    for s in settings:
        click.echo(f"fbprof {s.command} --{s.option} {s.value}    from {s.source}")
