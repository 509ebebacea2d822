"""What both command-line tools share: commands found by file name, errors as one sentence, exit codes."""

import contextlib
import dataclasses
import errno
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from fbbase.errors import FbError
from fbbase.files import STDOUT, is_one_file
from fbbase.options import Option
from fbbase.parsing import number
from fbbase.plugins import EXTRAS, PluginFolder, needs
from fbbase.settings import apply_settings
from fbbase.shown import Shown

Command = TypeVar("Command", bound=Callable[..., Any])


class CommandFolder(click.Group):
    """A click group whose commands are the modules of a folder; each module holds its command as `command`.

    `extra` is that of this project which brings all that the commands need, where the packages' own do not suffice.
    """

    def __init__(
        self, *args: Any, package: str, has_settings: bool = False, extra: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.has_settings, self.extra = has_settings, extra
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
        _keep_inputs(command)
        if self.has_settings:
            every = self.list_commands(ctx)
            apply_settings(str(self.name), ctx, cmd_name, command, every, lambda name: self.folder.module(name).command)
        return command


UNITS = {"min": "MINUTES", "percent": "PERCENT"}
"""What help shows for the value of an option whose name ends in a unit."""


class _Plain(click.ParamType[Any]):
    """A number that is written as others would write it: Python takes 5_0 and digits of other scripts, too."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number. Raises click.BadParameter."""
        read = super().convert(value, param, ctx)
        if number(str(value)) is None:
            self.fail(f"{value!r} is not a finite number in plain digits.", param, ctx)
        return read


class Whole(_Plain, click.IntRange):
    """A whole number within bounds, in plain digits."""


class Number(_Plain, click.FloatRange):
    """A finite number within bounds, in plain digits; nan is neither above a bound nor below it."""


def _kind_of(declared: Option, *bounds: Any, **how: Any) -> Any:
    """Return click's type of an option."""
    if declared.type not in (int, float):
        return declared.type
    kind = Whole(*bounds, **how) if declared.type is int else Number(*bounds, **how)
    if bounds in ((), (None, None)):
        kind.name = kind.name.removesuffix(" range")
    return kind


def option_of(declared: Option, *flags: str, **changes: Any) -> Callable[[Command], Command]:
    """Return the click option of a declared one: its flag unless others are given, its type, bounds, default and help.

    `changes` are arguments of click.option that are to be otherwise. The command gets it under the declared name.
    """
    lowest = declared.least if declared.above is None else declared.above
    if declared.choices is not None:
        kind: Any = click.Choice(declared.choices)
    else:
        kind = _kind_of(declared, lowest, declared.most, min_open=declared.above is not None)
    shown = declared.default not in (None, "")
    told = {"type": kind, "default": declared.default, "show_default": shown, "help": declared.help}
    if (unit := UNITS.get(declared.name.rpartition("_")[2])) is not None:
        told["metavar"] = unit
    flag = f"{declared.flag}/--no-{declared.flag.removeprefix('--')}" if declared.type is bool else declared.flag
    return click.option(*(flags or (flag,)), declared.name, **told | changes)


def options_from(declared: Iterable[Option], in_range: bool = True, **changes: Any) -> Callable[[Command], Command]:
    """Return the click options of declared ones; without `in_range` any number is taken, for others to refuse."""

    def add(command: Command) -> Command:
        for each in reversed(list(declared)):
            kind = {} if in_range or each.choices else {"type": _kind_of(each)}
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


def main(group: click.Group) -> None:
    """Run a tool as the process that it is. A Ctrl-C after the first ends it at once, without a word."""
    _open_standard_streams()
    code = 130
    with contextlib.suppress(KeyboardInterrupt):
        code = run(group)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        sys.stdout.flush()
    except OSError:
        _leave_stdout()
    sys.exit(code)


def run(group: click.Group, arguments: Sequence[str] | None = None) -> int:
    """Run a tool and return its exit code; every foreseen error becomes one message on stderr, no traceback."""
    with _shown():
        stdout = sys.stdout
        try:
            result = group.main(args=arguments, standalone_mode=False, color=True)
            sys.stdout.flush()
        except FbError as error:
            return _fail(str(error), error.exit_code)
        except click.ClickException as error:
            error.show()
            return error.exit_code
        except (KeyboardInterrupt, click.Abort):
            return _fail("interrupted", 130)
        except BrokenPipeError:
            return _leave_stdout()
        except SystemExit:
            if sys.stdout is stdout:
                raise
            return _leave_stdout()  # click's own answer to a broken pipe, in any mode: a stdout that drops everything
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] not in EXTRAS:
                raise
            return _fail(f"this {needs(error, getattr(group, 'extra', None))}", 2)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                where = error.filename or "while writing"
                return _fail(f"no space left on the disk ({where}); free some and run again", 3)
            if error.errno is None or error.filename is None:
                raise
            return _fail(f"{error.filename}: {error.strerror}", 3)
        except MemoryError as error:
            return _fail(f"there is not enough memory for this ({error})", 3)
        return result if isinstance(result, int) else 0


def echo_marked(mark: str, after: str, color: str, before: str = "", err: bool = False) -> None:
    """Print a line in which a word of ours has a colour, on a terminal, unless nobody wants that (no-color.org)."""
    stream = sys.stderr if err else sys.stdout
    plain = stream.stream if isinstance(stream, Shown) else stream
    stream.write(before)
    plain.write(click.style(mark, fg=color, bold=err) if plain.isatty() and not os.environ.get("NO_COLOR") else mark)
    stream.write(f"{after}\n")
    stream.flush()


def echo_beside(output: Path, message: str) -> None:
    """Print what a person is told of an output: on stderr where stdout is the output itself."""
    click.echo(message, err=output == STDOUT)


@contextlib.contextmanager
def _shown() -> Iterator[None]:
    """Let what is printed, text of others among it, show its control characters: no terminal is to obey them."""
    streams = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = Shown(streams[0]), Shown(streams[1])
    try:
        yield
    finally:
        sys.stdout, sys.stderr = streams


def _open_standard_streams() -> None:
    """Open what whoever started this process had closed, on nothing, before another file gets its number."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115 - a number, and as long as all
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115


def _leave_stdout() -> int:
    """End in peace: the reader of our stdout went away (head, less), and nobody is left to tell."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno() if sys.__stdout__ else 1)
    return 0


def _keep_inputs(command: click.Command) -> None:
    """Let a command, and those below it, refuse to write over what it reads before it begins."""

    def invoke(ctx: click.Context) -> Any:
        _refuse_own_input(ctx)
        return type(command).invoke(command, ctx)

    command.invoke = invoke  # type: ignore[method-assign]
    for below in command.commands.values() if isinstance(command, click.Group) else ():
        _keep_inputs(below)


def _refuse_own_input(ctx: click.Context) -> None:
    """Raise FbError where what a command is to write is one of the files that it is given."""
    called = {
        each.name: each.opts[0] if isinstance(each, click.Option) else each.human_readable_name.strip(".[]")
        for each in ctx.command.params
    }
    outputs = [name for name in ("output", "plot", "csv_file") if ctx.params.get(name) is not None]
    for name, value in ctx.params.items():
        for given in value if isinstance(value, tuple) else (value,):
            for output in outputs if name not in outputs and isinstance(given, str | Path) else ():
                if is_one_file(ctx.params[output], given):
                    raise FbError(
                        f"{called[output]} {given} is the {called[name]} itself, which would be lost; name another file"
                    )


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
    with contextlib.suppress(OSError):
        echo_marked("error", f": {message}", color="red", err=True)
    return code
