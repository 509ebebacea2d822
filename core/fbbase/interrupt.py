"""Ctrl-C, SIGTERM and SIGHUP: between two steps of long work, where one may be lost within a step, or at once."""

import contextlib
import functools
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

import click

from fbbase.errors import PartialError


class Terminated(PartialError):  # noqa: N818  # an event, not a mistake
    """SIGTERM or SIGHUP came, and the work ended in order."""

    def __init__(self, number: int = signal.SIGTERM) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}; the same command continues")


@contextlib.contextmanager
def terminated_as_interrupted() -> Iterator[None]:
    """Let SIGTERM and SIGHUP raise Terminated wherever the main thread is, as Ctrl-C raises KeyboardInterrupt.

    Outside the main thread, and for a signal that whoever started this process had ignored (nohup), nothing changes.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_IGN)  # a second one must not end the ending
        raise Terminated(number)

    numbers = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) is signal.SIG_DFL]
    if threading.current_thread() is not threading.main_thread():
        numbers = []
    for number in numbers:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)


@contextlib.contextmanager
def interrupt_between_steps(terminate: bool = False, quiet: bool = False) -> Iterator[Callable[[], None]]:
    """Yield a function that raises KeyboardInterrupt if Ctrl-C was pressed since; call it between steps.

    With `terminate` it raises Terminated after SIGTERM, which a job scheduler sends before it kills, and after SIGHUP,
    which comes when a terminal is closed. A second signal of a kind acts at once; with `quiet`, no message says so.
    Outside the main thread, and for a signal that whoever started this process had ignored (Ctrl-C for a job in the
    background), nothing changes.
    """
    errors: dict[int, Callable[[], BaseException]] = {signal.SIGINT: KeyboardInterrupt}
    if terminate:
        errors |= {number: functools.partial(Terminated, number) for number in (signal.SIGTERM, signal.SIGHUP)}
    before = {number: signal.getsignal(number) for number in errors}
    watched = [number for number in errors if before[number] is not signal.SIG_IGN]
    if not watched or threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    received: list[int] = []

    def remember(number: int, frame: FrameType | None) -> None:
        received.append(number)
        signal.signal(number, before[number])
        again = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
        if not quiet:
            click.echo(f"stopping after this step; {again} again stops at once", err=True)

    def check() -> None:
        if received:
            raise errors[received[0]]()

    for number in watched:
        signal.signal(number, remember)
    try:
        yield check
    finally:
        for number in watched:
            signal.signal(number, before[number])
