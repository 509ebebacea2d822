"""Channel: the standard streams of a process, and how a script ended that was waited for."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

STDOUT_BYTES = 1 << 16
"""How much of what a script prints is kept."""


class Channel(Protocol):
    """The standard streams of an agent's process."""

    def send(self, line: bytes, following: bytes = b"") -> None:
        """Send one line, and bytes that follow it. Raises AgentLostError."""

    def receive(self, timeout_s: float) -> bytes:
        """Return the next line. Raises AgentTimeoutError, or AgentLostError with the process's last words."""

    def close(self) -> None:
        """End the process; never raises."""


class StartsAgents(Protocol):
    """What an AgentClient needs of a transport."""

    def start(self, options: Sequence[str]) -> Channel:
        """Start the agent with these options. Raises DeviceError."""


class Finished(NamedTuple):
    """How a script ended: its exit code, what it printed (the first 64 KiB), and its last words on stderr."""

    code: int
    stdout: str
    words: str


def last_words(raw: bytes) -> str:
    """Return the last lines of what a program printed, without what could steer a terminal."""
    lines = [line.strip() for line in raw[-4000:].decode(errors="replace").splitlines() if line.strip()]
    return "".join(c if c.isprintable() else "?" for c in " | ".join(lines[-8:]))[-600:]
