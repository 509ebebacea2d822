"""Complete: what the shell offers for devices, spaces, runtimes and tables, where a person presses the tab key."""

import importlib
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


def _plugins(folder: str) -> list[str]:
    """Return the names in a folder of plug-ins, `module:NAME`, which is imported only where the key is pressed."""
    module, _, name = folder.partition(":")
    names: list[str] = getattr(importlib.import_module(module), name).names()
    return names


def _devices() -> list[str]:
    from fbagents.discovery import known

    return [profile.name for profile in known()]


devices = _completer(_devices, with_files=True)
spaces = _completer(lambda: _plugins("fbspace.space:SPACES") + _plugins("fbspace.architecture:ZOO"), with_files=True)
runtimes = _completer(lambda: _plugins("fbexport.runtimes:RUNTIMES"), with_files=False)
tables = _completer(lambda: _plugins("fblut.reading:PUBLISHED"), with_files=True)
