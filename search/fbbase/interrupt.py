"""Ctrl-C between two steps of long work, never within one: Python's own may strike, and be lost, anywhere."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

import click


@contextlib.contextmanager
def interrupt_between_steps() -> Iterator[Callable[[], None]]:
    """Yield a function that raises KeyboardInterrupt if Ctrl-C was pressed since; call it between steps.

    A second Ctrl-C interrupts at once. Outside the main thread, and where whoever started this process had Ctrl-C
    ignored (a job in the background), nothing changes.
    """
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN or threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    pressed = threading.Event()

    def remember(number: int, frame: FrameType | None) -> None:
        pressed.set()
        signal.signal(signal.SIGINT, before)
        click.echo("stopping after this step; Ctrl-C again stops at once", err=True)

    def check() -> None:
        if pressed.is_set():
            raise KeyboardInterrupt

    signal.signal(signal.SIGINT, remember)
    try:
        yield check
    finally:
        signal.signal(signal.SIGINT, before)
