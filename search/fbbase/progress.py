"""Progress of long work on stderr: a bar with the time left on a terminal, a plain line now and then elsewhere."""

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import Protocol

import click

PLAIN_INTERVAL_S = 10.0


class Advance(Protocol):
    """Say that so many more steps are done; `note` is shown beside the bar."""

    def __call__(self, steps: int = 1, note: str = "") -> None:
        """Advance the bar."""
        ...


@contextlib.contextmanager
def progress(title: str, total: int, done: int = 0) -> Iterator[Advance]:
    """Show progress towards `total` steps, of which `done` were done by an earlier run."""
    yield from _bar(title, total, done) if sys.stderr.isatty() else _lines(title, total, done)


def _bar(title: str, total: int, done: int) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=Console(stderr=True), speed_estimate_period=60) as bar:
        task = bar.add_task(title, total=total, completed=done, note="")

        def advance(steps: int = 1, note: str = "") -> None:
            bar.update(task, advance=steps, note=note)

        yield advance


def _lines(title: str, total: int, done: int) -> Iterator[Advance]:
    start = last = time.monotonic()
    count = done

    def advance(steps: int = 1, note: str = "") -> None:
        nonlocal count, last
        count += steps
        now = time.monotonic()
        if now - last >= PLAIN_INTERVAL_S or count >= total:
            last = now
            left_s = (now - start) / max(count - done, 1) * (total - count)
            click.echo(f"{title}: {count}/{total}, about {left_s:.0f} s left {note}".rstrip(), err=True)

    yield advance
