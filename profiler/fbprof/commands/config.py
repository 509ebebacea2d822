"""fbprof config: every setting, and where it comes from."""

import json
from dataclasses import asdict

import click


@click.command("config")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@click.pass_context
def command(ctx: click.Context, as_json: bool) -> None:
    r"""Show what is set for options without a flag, and where.

    A flag comes before the environment (FBPROF_MEASURE_DEVICE for one command, FBPROF_DEVICE for all), that before
    fbprof.toml in this folder, and that before the user's file. What is shown is what a command would take now.

    \b
    Example:
      fbprof config
      FBPROF_DEVICE=pixel-3 fbprof config
    """
    from fbbase.settings import files_of, settings_of

    assert ctx.parent is not None
    group = ctx.parent.command
    assert isinstance(group, click.Group)
    commands = {name: each for name in group.list_commands(ctx.parent) if (each := group.get_command(ctx.parent, name))}
    settings = settings_of(str(group.name), commands)
    files = {str(path): path.is_file() for path in files_of(str(group.name))}
    if as_json:
        click.echo(json.dumps({"files": files, "settings": list(map(asdict, settings))}, indent=2, ensure_ascii=False))
        return
    for path, exists in files.items():
        click.echo(f"{path}: {'read' if exists else 'not there'}")
    if not settings:
        click.echo("nothing is set; fbprof init writes a first fbprof.toml")
    for s in settings:
        click.echo(f"fbprof {s.command} --{s.option} {s.value}    from {s.source}")
