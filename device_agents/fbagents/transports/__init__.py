"""One file per transport; each has `connect(profile) -> Transport`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from fbagents.pieces import Content, Write
from fbbase.plugins import PluginFolder

if TYPE_CHECKING:
    from fbagents.profile import Profile

TRANSPORTS = PluginFolder("transport", "fbagents.transports")


class Channel(Protocol):
    """The standard streams of an agent's process."""

    def send(self, line: bytes, following: bytes = b"") -> None:
        """Send one line, and bytes that follow it. Raises AgentLostError."""
        ...

    def receive(self, timeout_s: float) -> bytes:
        """Return the next line. Raises AgentTimeoutError, or AgentLostError with the process's last words."""
        ...

    def close(self) -> None:
        """End the process; never raises."""
        ...


class Transport(Protocol):
    """A connection to one device; `copies` is False where the agent opens this machine's files."""

    copies: bool

    def push(self, path: Path) -> str:
        """Make a file available on the device and return the path by which the agent opens it. Raises DeviceError."""
        ...

    def send(self, content: Content, write: Write) -> str:
        """Do the same by a running agent, sending it what the device lacks. Raises DeviceError and as `write` does."""
        ...

    def start(self, options: Sequence[str]) -> Channel:
        """Start the agent with these options. Raises DeviceError."""
        ...

    def close(self) -> None:
        """Release the device and remove what was pushed; never raises."""
        ...


def connect(profile: "Profile") -> Transport:
    """Connect to a device. Raises DeviceError, UnknownNameError for an unknown transport."""
    transport: Transport = TRANSPORTS.load(profile.transport).connect(profile)
    return transport
