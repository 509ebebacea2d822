"""Complete: what the shell offers for devices, spaces, runtimes and tables, where a person presses the tab key."""

from collections.abc import Callable, Iterable

import click
from click.shell_completion import CompletionItem

Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def _completer(names: Callable[[], Iterable[str]], with_files: bool) -> Completer:
    """Return a function that offers names, and files where no name begins so."""

    def complete(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
        found = [CompletionItem(name) for name in names() if name.startswith(incomplete)]
        return found or ([CompletionItem(incomplete, type="file")] if with_files else [])

    return complete


def _devices() -> list[str]:
    from fbagents.discovery import known

    return [profile.name for profile in known()]


def _spaces() -> list[str]:
    from fbspace.architecture import ZOO
    from fbspace.space import SPACES

    return [*SPACES.names(), *ZOO.names()]


def _runtimes() -> list[str]:
    from fbexport.runtimes import RUNTIMES

    return RUNTIMES.names()


def _tables() -> list[str]:
    from fblut.reading import PUBLISHED

    return PUBLISHED.names()


devices = _completer(_devices, with_files=True)
spaces = _completer(_spaces, with_files=True)
runtimes = _completer(_runtimes, with_files=False)
tables = _completer(_tables, with_files=True)
