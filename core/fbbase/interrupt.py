"""Ctrl-C and SIGTERM between two steps of long work, never within one: a signal may strike, and be lost, anywhere."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

import click

from fbbase.errors import PartialError


class Terminated(PartialError):  # noqa: N818  # an event, not a mistake
    """SIGTERM came, and the step under way was finished."""

    def __init__(self) -> None:
        super().__init__("stopped by SIGTERM; the same command continues")


@contextlib.contextmanager
def interrupt_between_steps(terminate: bool = False, quiet: bool = False) -> Iterator[Callable[[], None]]:
    """Yield a function that raises KeyboardInterrupt if Ctrl-C was pressed since; call it between steps.

    With `terminate` it raises Terminated after SIGTERM, which a job scheduler sends before it kills. A second signal
    of a kind acts at once; with `quiet`, no message says so. Outside the main thread, and for a signal that whoever
    started this process had ignored (Ctrl-C for a job in the background), nothing changes.
    """
    errors: dict[int, Callable[[], BaseException]] = {signal.SIGINT: KeyboardInterrupt}
    if terminate:
        errors[signal.SIGTERM] = Terminated
    before = {number: signal.getsignal(number) for number in errors}
    watched = [number for number in errors if before[number] is not signal.SIG_IGN]
    if not watched or threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    received: list[int] = []

    def remember(number: int, frame: FrameType | None) -> None:
        received.append(number)
        signal.signal(number, before[number])
        again = "Ctrl-C" if number == signal.SIGINT else "SIGTERM"
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
