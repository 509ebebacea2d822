"""Progress of long work on stderr: bars with the time left on a terminal, a plain line now and then elsewhere.

A thread has one row. Work within work takes its row over and gives it back; the rows of all threads make one screen.
"""

import contextlib
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol, Self

import click

from fbbase.shown import Shown, escaped

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

PLAIN_INTERVAL_S = 10.0
"""Between two lines, whichever of the threads at work they are of."""
BAR_INTERVAL_S = 0.1


class Advance(Protocol):
    """Say that so many more steps are done; `note` is shown beside the bar."""

    def __call__(self, steps: int = 1, note: str = "") -> None:
        """Advance the bar."""


@contextlib.contextmanager
def progress(title: str, total: int, done: int = 0, shown: bool = True) -> Iterator[Advance]:
    """Show progress towards `total` steps, of which `done` were done by an earlier run; nothing unless `shown`."""
    if not shown:
        yield lambda steps=1, note="": None
        return
    yield from _bar(title, total, done) if sys.stderr.isatty() else _lines(title, total, done)


class Waiting:
    """Says on stderr what is waited for, every ten seconds while nothing moves; use as a context manager.

    Work calls it whenever it moves on, with what it does now: that costs no more than an assignment.
    """

    _of_thread = threading.local()

    def __init__(self, title: str, doing: str) -> None:
        self._title, self._ended = title, threading.Event()
        self._state = (doing, time.monotonic())
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __call__(self, doing: str) -> None:
        """Tell that the work moves on."""
        self._state = (doing, time.monotonic())

    def __enter__(self) -> Self:
        self(self._state[0])
        self._of_thread.current = self
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._of_thread.current = None
        self._ended.set()
        self._thread.join()

    @classmethod
    def tell(cls, doing: str) -> None:
        """Say at once what this thread's work begins to do that may take long; nothing where nobody waits for it."""
        current = getattr(cls._of_thread, "current", None)
        if current is not None:
            current(doing)
            click.echo(f"{current._title}: {doing}", err=True)

    @classmethod
    @contextlib.contextmanager
    def told(cls, doing: str) -> Iterator[None]:
        """Do the same for what this thread's work does within, and then go back to what it did before."""
        current = getattr(cls._of_thread, "current", None)
        before = current._state[0] if current is not None else ""
        cls.tell(doing)
        try:
            yield
        finally:
            if current is not None:
                current(before)

    def _watch(self) -> None:
        last = self._state
        due = last[1] + PLAIN_INTERVAL_S
        while not self._ended.wait(max(due - time.monotonic(), 0.0)):
            if self._state is not last:
                last = self._state
                due = last[1] + PLAIN_INTERVAL_S
            else:
                click.echo(f"{self._title}: {last[0]}, {time.monotonic() - last[1]:.0f} s so far", err=True)
                due += PLAIN_INTERVAL_S


@contextlib.contextmanager
def shared_screen() -> Iterator[None]:
    """Keep the rows of all threads on the screen until this ends, also of those that have nothing to show just now."""
    if not sys.stderr.isatty():
        yield
        return
    with SCREEN.opened():
        yield


class _Screen:
    """What all threads share: the bars, while at least one of them is open."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.bars: Progress | None = None  # that are on the screen now
        self._users = 0
        self.printing: Counter[int] = Counter()  # lines that are open, by thread
        self._row = threading.local()

    @contextlib.contextmanager
    def opened(self) -> "Iterator[Progress]":
        with self._lock:
            if self.bars is None:
                self.bars = _new_bars()
                self.bars.start()
                sys.stderr = Shown(sys.stderr)  # rich has put its own before ours, and puts ours back
                if sys.stdout.isatty():
                    sys.stdout = Shown(sys.stdout)
            self._users += 1
            bars = self.bars
        try:
            yield bars
        finally:
            with self._lock:
                self._users -= 1
                if not self._users:
                    self.bars = None
                    bars.stop()

    @contextlib.contextmanager
    def row(self, bars: "Progress", title: str, total: int, done: int) -> "Iterator[TaskID]":
        """Lend the thread's row on these bars, and put back what it showed before if that goes on."""
        mine = self._row.__dict__
        if mine.get("bars") is not bars:
            mine |= {"bars": bars, "task": bars.add_task(title, note=""), "depth": 0}
        row: TaskID = mine["task"]
        before = next(task for task in bars.tasks if task.id == row)
        description, of, completed = before.description, before.total, before.completed
        bars.reset(row, description=title, total=total, completed=done, note="")
        mine["depth"] += 1
        try:
            yield row
        finally:
            mine["depth"] -= 1
            if mine["depth"]:
                bars.update(row, description=description, total=of, completed=completed)

    @contextlib.contextmanager
    def counted(self) -> Iterator[None]:
        """Count a thread that prints lines."""
        thread = threading.get_ident()
        with self._lock:
            self.printing[thread] += 1
        try:
            yield
        finally:
            with self._lock:
                self.printing -= Counter([thread])


SCREEN = _Screen()
"""There is one stderr."""


def _new_bars() -> "Progress":
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        console=Console(file=sys.stderr.stream if isinstance(sys.stderr, Shown) else sys.stderr),
        speed_estimate_period=60,
        redirect_stdout=sys.stdout.isatty(),  # above the bars, where it is no file
    )


def _bar(title: str, total: int, done: int) -> Iterator[Advance]:
    with SCREEN.opened() as bars, SCREEN.row(bars, escaped(title), total, done) as row:
        count, shown, last = done, "", 0.0

        def advance(steps: int = 1, note: str = "") -> None:
            nonlocal count, shown, last
            count, shown = count + steps, escaped(note)
            now = time.monotonic()
            if now - last >= BAR_INTERVAL_S or count >= total:
                last = now
                bars.update(row, completed=count, note=shown)

        yield advance
        bars.update(row, completed=count, note=shown)


def _lines(title: str, total: int, done: int) -> Iterator[Advance]:
    last = time.monotonic()
    count, first, first_at = done, -1, 0.0

    def advance(steps: int = 1, note: str = "") -> None:
        nonlocal count, last, first, first_at
        count += steps
        now = time.monotonic()
        if first < 0:  # the rate counts from here: what came before the first step is no measure of one
            first, first_at = count, now
        if now - last >= PLAIN_INTERVAL_S * len(SCREEN.printing) or (count >= total and steps):
            last = now
            left_s = (now - first_at) / max(count - first, 1) * (total - count)
            left = f", about {left_s:.0f} s left" if first < count < total else ""
            click.echo(f"{title}: {count}/{total}{left}{f', {note}' if note else ''}", err=True)

    with SCREEN.counted():
        yield advance
