"""One file per transport; each has `connect(profile) -> Transport`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

from fbagents.agent.pieces import Content, Write
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


class Finished(NamedTuple):
    """How a script ended: its exit code, what it printed (the first 64 KiB), and its last words on stderr."""

    code: int
    stdout: str
    words: str


@runtime_checkable
class RunsPrograms(Protocol):
    """What a transport offers beside, where its device runs programs of others: it is optional."""

    def install(self, program: Path) -> str:
        """Make a program available, prepare the device for it, and return its path there. Raises DeviceError."""
        ...

    def shell(self, script: str, *arguments: str, timeout_s: float) -> Finished:
        """Run a constant POSIX shell script; data are its arguments. Raises ConnectionLostError, AgentTimeoutError."""
        ...


def connect(profile: "Profile") -> Transport:
    """Connect to a device. Raises DeviceError, UnknownNameError for an unknown transport, ProfileError."""
    transport: Transport = TRANSPORTS.module(profile.transport).connect(profile)
    if profile.agent != "benchmark_model":
        return transport
    from fbagents.benchmark.agent import BenchmarkTransport

    return BenchmarkTransport(transport, profile)
