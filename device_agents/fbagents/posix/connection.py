"""Connection: one way to a device's shell, opened again when it broke, and words for how a script ended there."""

import time
from abc import ABC, abstractmethod
from typing import IO, ClassVar

from fbagents.agent.channel import Channel, Finished
from fbagents.errors import UnreachableError

COMMAND_TIMEOUT_S = 30.0


class Connection(ABC):
    """One way to a device that all commands share; prints as the device's address."""

    reopen_waits_s: ClassVar[tuple[float, ...]] = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0)
    """How long to wait before each further try to reach a device that was there before: it may be starting again."""
    _opened = 0

    def ensure(self, patient: bool = True) -> int:
        """Open the connection unless it is open, and return how many there have been. Raises DeviceError.

        A device that was reached before is waited for, a minute and a half at most, unless not `patient`.
        """
        if self._opened and self.is_open():
            return self._opened
        for wait_s in self.reopen_waits_s if self._opened and patient else ():
            try:
                self.open()
                break
            except UnreachableError:
                time.sleep(wait_s)
        else:
            self.open()
        self._opened += 1
        return self._opened

    @abstractmethod
    def is_open(self) -> bool:
        """Return whether the connection is open, as far as is known without waiting."""

    @abstractmethod
    def open(self) -> None:
        """Open the connection. Raises DeviceError."""

    @abstractmethod
    def run(self, script: str, *arguments: str, stdin: IO[bytes] | None = None, timeout_s: float) -> Finished:
        """Run a constant script; data are its arguments. Raises ConnectionLostError, AgentTimeoutError."""

    @abstractmethod
    def start(self, script: str, *arguments: str) -> Channel:
        """Start a constant script and return its streams. Raises ConnectionLostError."""

    @abstractmethod
    def close(self) -> None:
        """End the connection; never raises."""


def how_it_ended(code: int) -> str:
    """Say how a script's agent ended, from the exit code that a shell gives it."""
    if not 128 < code < 160:
        return f"ended with {code}"
    cause = ", as the system does when memory runs out" if code == 137 else ""
    return f"was killed by signal {code - 128}{cause}"


def cannot_be_run(code: int, where: object) -> str:
    """Say what to do where a shell found no program, or none that it can run; empty for every other exit code."""
    if code not in (126, 127):
        return ""
    return (
        f". The agent's program cannot be run on {where}: set python or program in the profile, or agent = 'native', "
        "which needs no Python"
    )
