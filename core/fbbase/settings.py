"""Settings: what an option is where no flag is given: the environment, the project's file, the user's file.

    # fbprof.toml: for every command that has the option, then for one command
    device = "galaxy-s8"
    [measure]
    max-time = 20

What comes first counts. In the environment FBPROF_MEASURE_DEVICE is for one command and FBPROF_DEVICE for all. Files
are `TOOL.toml` in the working folder, and `~/.config/TOOL/config.toml`.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from fbbase.errors import UnknownNameError
from fbbase.files import read_text
from fbbase.parsing import parse_toml

WITHOUT = ("init", "config")
"""Commands whose options are never settings: they are about settings."""
TOLD = ("import", "fit")
"""Commands whose options say what others measured: what is set for all commands tells of this folder's device, not of
theirs, so only their own table and variables count."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One option of a command that is set somewhere, and where."""

    command: str
    option: str
    value: Any
    source: str


def files_of(tool: str) -> list[Path]:
    """Return the settings files there may be, that which comes first first."""
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path("~/.config").expanduser())
    return [Path(f"{tool}.toml"), home / tool / "config.toml"]


def apply_settings(
    tool: str,
    ctx: click.Context,
    name: str,
    command: click.Command,
    names: Iterable[str],
    load: Callable[[str], click.Command],
) -> None:
    """Let a command's options be what settings say where no flag is given; `names` are all commands.

    Raises FbError for a file that is not TOML, UnknownNameError for a setting that no command knows.
    """
    if name in WITHOUT:
        return
    defaults: dict[str, Any] = {}
    options = _options(command)
    for option, parameter in options.items():
        parameter.envvar = _variables(tool, name, option)
    for path, content in _contents(tool):
        known = set(names)
        for key, value in content.items():
            if isinstance(value, Mapping):
                if key not in known:
                    raise UnknownNameError(f"command in {path}", key, known)
            elif key not in options and not any(key in _options(load(other)) for other in sorted(known)):
                every = {option for other in known for option in _options(load(other))}
                raise UnknownNameError(f"setting in {path}", key, every)
        for key, value in _of_command(content, name).items():
            if key in options:
                listed = options[key].multiple and not isinstance(value, list)
                defaults.setdefault(str(options[key].name), [value] if listed else value)
            elif key in content.get(name, {}):
                raise UnknownNameError(f"setting of {name} in {path}", key, options)
    if defaults:
        ctx.default_map = {**(ctx.default_map or {}), name: defaults}


def settings_of(tool: str, commands: Mapping[str, click.Command]) -> list[Setting]:
    """Return every option that is set in the environment or in a file, from where it is taken."""
    contents = list(_contents(tool))
    options = ((name, option) for name in commands if name not in WITHOUT for option in _options(commands[name]))
    found = (_find(tool, name, option, contents) for name, option in options)
    return [setting for setting in found if setting is not None]


def _find(tool: str, name: str, option: str, contents: list[tuple[Path, dict[str, Any]]]) -> Setting | None:
    for variable in _variables(tool, name, option):
        if variable in os.environ:
            return Setting(name, option, os.environ[variable], f"environment {variable}")
    for path, content in contents:
        values = _of_command(content, name)
        if option in values:
            return Setting(name, option, values[option], str(path))
    return None


def _contents(tool: str) -> Iterator[tuple[Path, dict[str, Any]]]:
    for path in files_of(tool):
        if path.exists():
            yield path, parse_toml(read_text(path, "settings file"), str(path))


def _of_command(content: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return what a file says for a command; its own table comes before what is for all."""
    general = {} if name in TOLD else {k: v for k, v in content.items() if not isinstance(v, Mapping)}
    own = content.get(name, {})
    return general | (dict(own) if isinstance(own, Mapping) else {})


def _options(command: click.Command) -> dict[str, click.Option]:
    """Return a command's options by their long names."""
    found = {}
    for parameter in command.params:
        if isinstance(parameter, click.Option) and not parameter.hidden:
            long = next((o for o in parameter.opts if o.startswith("--")), None)
            if long is not None:
                found[long.removeprefix("--")] = parameter
    return found


def _variables(tool: str, command: str, option: str) -> list[str]:
    tool, command, option = (text.upper().replace("-", "_") for text in (tool, command, option))
    own = f"{tool}_{command}_{option}"
    return [own] if command.lower() in TOLD else [own, f"{tool}_{option}"]
