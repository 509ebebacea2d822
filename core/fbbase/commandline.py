"""What both command-line tools share: commands found by file name, errors as one sentence, exit codes."""

import dataclasses
import errno
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import click

from fbbase.errors import FbError
from fbbase.options import Option
from fbbase.plugins import PluginFolder
from fbbase.settings import apply_settings

Command = TypeVar("Command", bound=Callable[..., Any])


class CommandFolder(click.Group):
    """A click group whose commands are the modules of a folder; each module holds its command as `command`."""

    def __init__(self, *args: Any, package: str, has_settings: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.has_settings = has_settings
        self.folder = PluginFolder("command", package)
        _keep_examples(self)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands without importing them."""
        return self.folder.names()

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command."""
        command: click.Command = self.folder.module(cmd_name).command
        _keep_examples(command)
        _refuse_doubles(cmd_name, command)
        if self.has_settings:
            every = self.list_commands(ctx)
            apply_settings(str(self.name), ctx, cmd_name, command, every, lambda name: self.folder.module(name).command)
        return command


def option_of(declared: Option, *flags: str, **changes: Any) -> Callable[[Command], Command]:
    """Return the click option of a declared one: its flag unless others are given, its type, bounds, default and help.

    `changes` are arguments of click.option that are to be otherwise. The command gets it under the declared name.
    """
    kind: Any = declared.type
    lowest = declared.least if declared.above is None else declared.above
    if declared.choices is not None:
        kind = click.Choice(declared.choices)
    elif (lowest, declared.most) != (None, None):
        of_type: Any = click.IntRange if declared.type is int else click.FloatRange
        kind = of_type(lowest, declared.most, min_open=declared.above is not None)
    shown = declared.default not in (None, "")
    told = {"type": kind, "default": declared.default, "show_default": shown, "help": declared.help}
    flag = f"{declared.flag}/--no-{declared.flag.removeprefix('--')}" if declared.type is bool else declared.flag
    return click.option(*(flags or (flag,)), declared.name, **told | changes)


def options_from(declared: Iterable[Option], in_range: bool = True, **changes: Any) -> Callable[[Command], Command]:
    """Return the click options of declared ones; without `in_range` any number is taken, for others to refuse."""

    def add(command: Command) -> Command:
        for each in reversed(list(declared)):
            kind = {} if in_range or each.choices else {"type": each.type}
            command = option_of(each, **kind | changes)(command)
        return command

    return add


def options_of_plugins(*kinds: PluginFolder, in_range: bool = True) -> Callable[[Command], Command]:
    """Return the click options that plug-ins of these kinds declare in their files; None where one is not given.

    Raises FbError where two declare one option with different types.
    """
    found: dict[str, list[tuple[str, Option]]] = {}
    for kind in kinds:
        for name, having in kind.options().items():
            found.setdefault(name, []).extend((f"{kind.kind} {plugin}", option) for plugin, option in having)
    declared = []
    for having in found.values():
        first, option = having[0]
        told: dict[str, list[str]] = {}
        for plugin, each in having:
            if each.type is not option.type:
                raise FbError(f"{first} and {plugin} have options {option.flag} of two types; rename one")
            told.setdefault(f"{each.help}  [default: {each.default}; of {{}}]", []).append(plugin)
        words = "  ".join(text.format(", ".join(plugins)) for text, plugins in told.items())
        declared.append(dataclasses.replace(option, default=None, help=words))
    return options_from(declared, in_range)


def run(group: click.Group, arguments: Sequence[str] | None = None) -> int:
    """Run a tool and return its exit code; every foreseen error becomes one message on stderr, no traceback."""
    stdout = sys.stdout
    try:
        result = group.main(args=arguments, standalone_mode=False, color=_color())
        sys.stdout.flush()
    except FbError as error:
        return _fail(str(error), error.exit_code)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        return _fail("interrupted", 130)
    except BrokenPipeError:
        return _without_reader()
    except SystemExit:
        if sys.stdout is stdout:
            raise
        return _without_reader()  # click's own answer to a broken pipe, in any mode: a stdout that drops everything
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return _fail(f"no space left on the disk ({error.filename or 'while writing'}); free some and run again", 3)
        raise
    return result if isinstance(result, int) else 0


def _without_reader() -> int:
    """End in peace: the reader of our stdout went away (head, less), and nobody is left to tell."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno() if sys.__stdout__ else 1)
    return 0


def _keep_examples(command: click.Command) -> None:
    """Turn a docstring's backslash-b into the character by which click knows lines that must not be rewrapped."""
    command.help = (command.help or "").replace("\\b\n", "\b\n")


def _refuse_doubles(name: str, command: click.Command) -> None:
    """Raise FbError for a plug-in's option that the command has already."""
    seen: dict[str, click.Option] = {}
    for each in (each for each in command.params if isinstance(each, click.Option)):
        for flag in each.opts:
            other = seen.setdefault(flag, each)
            if other is not each:
                raise FbError(f"{name} has two options {flag} ({other.help!r} and {each.help!r}); rename one")


def _fail(message: str, code: int) -> int:
    click.echo(f"{click.style('error', fg='red', bold=True)}: {message}", err=True, color=_color())
    return code


def _color() -> bool | None:
    """Return False where nobody wants colours (no-color.org); None leaves it to whether there is a terminal."""
    return False if os.environ.get("NO_COLOR") else None
