"""Options of commands that settings, recipes and plug-ins declare."""

from collections.abc import Callable, Iterable
from typing import Any

import click

from fbbase.errors import FbError
from fbbase.options import Option
from fbbase.plugins import PluginFolder


def declared(options: Iterable[Option], with_defaults: bool = True) -> Callable[[Any], Any]:
    """Decorate a command with options that a dataclass declares; without defaults one that is not given is None."""

    def add(command: Any) -> Any:
        for each in reversed(list(options)):
            default = each.default if with_defaults else None
            words: dict[str, Any] = {"default": default, "show_default": default not in (None, ""), "help": each.help}
            command = click.option(_flag(each), type=_kind(each), **words)(command)
        return command

    return add


def add_own_options(command: click.Command, after: str, kinds: Iterable[PluginFolder]) -> list[str]:
    """Give a command the options that plug-ins declare in their files, behind the one called `after`.

    Returns their names; one that is not given is None. Raises FbError for an option that the command has, or that two
    plug-ins declare with another type.
    """
    found: dict[str, list[tuple[str, Option]]] = {}
    for kind in kinds:
        for name, having in kind.options().items():
            found.setdefault(name, []).extend((f"{kind.kind} {plug_in}", option) for plug_in, option in having)
    taken = {flag for parameter in command.params for flag in parameter.opts}
    at = 1 + next(index for index, parameter in enumerate(command.params) if parameter.name == after)
    for having in reversed(found.values()):
        (first, option), *others = having
        other = next((plug_in for plug_in, each in others if each.type is not option.type), None)
        if option.flag in taken or other is not None:
            also = f"{other} of another type" if other else f"fbsearch {command.name}"
            raise FbError(f"{first} has an option {option.flag}, and so has {also}; rename one")
        command.params.insert(at, click.Option([_flag(option)], type=_kind(option), default=None, help=_told(having)))
    return list(found)


def _told(having: list[tuple[str, Option]]) -> str:
    """Return the help of an option that plug-ins have: what it is, of which ones, and their defaults."""
    of: dict[str, list[str]] = {}
    for plug_in, option in having:
        default = "" if option.default is None else f"; default: {option.default}"
        of.setdefault(f"{option.help}  [{{}}{default}]", []).append(plug_in)
    return "  ".join(words.format(", ".join(plug_ins)) for words, plug_ins in of.items())


def _flag(option: Option) -> str:
    return f"{option.flag}/--no-{option.flag.removeprefix('--')}" if option.type is bool else option.flag


def _kind(option: Option) -> Any:
    return click.Choice(option.choices) if option.choices else option.type
