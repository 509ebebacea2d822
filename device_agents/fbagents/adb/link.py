"""Link: what opens streams on a phone, whether by adb's packets or by an adb server; how long either may be silent."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

MAX_PACKET_BYTES = 1 << 20
CHUNK_BYTES = 1 << 18


class LinkError(Exception):
    """The connection broke, or what came over it is not adb."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How many seconds something may take."""

    quiet_s: float = 3.0
    """After so long without a packet the device is asked whether it is still there."""
    answer_s: float = 6.0
    handshake_s: float = 5.0
    packet_s: float = 30.0
    write_s: float = 30.0
    dialog_s: float = 30.0
    """For a person who has to accept a dialog on the phone."""


@dataclass(slots=True)
class Stream:
    """One service of the device; a packet is acknowledged when it is taken, so that none can flood the host."""

    local_id: int
    remote_id: int = 0
    may_write: bool = False
    closed: bool = False
    received: list[bytes] = field(default_factory=list)


class Link(ABC):
    """A connection to a phone with its streams. All but `is_open`, `fail` and `close` raise LinkError."""

    packet_bytes = MAX_PACKET_BYTES
    """How much may be written at once."""

    def __init__(self, timeouts: Timeouts) -> None:
        self.timeouts = timeouts
        self.broken = False
        self._last_id = 0

    @abstractmethod
    def open(self, service: bytes) -> Stream:
        """Open a service; the stream is closed where the device refuses it."""

    @abstractmethod
    def write(self, stream: Stream, data: bytes) -> None:
        """Send up to `packet_bytes`, as fast as the device takes them."""

    def take(self, stream: Stream) -> bytes:
        """Return what has arrived, and let the device send more."""
        received, stream.received = stream.received, []
        return b"".join(received)

    @abstractmethod
    def end(self, stream: Stream) -> None:
        """Close a stream from this side."""

    @abstractmethod
    def pump(self, timeout_s: float) -> bool:
        """Handle what comes next of whichever stream; return False where nothing came. What is gone is noticed."""

    @abstractmethod
    def is_open(self) -> bool:
        """Return whether the phone is connected, as far as this side can know without asking."""

    def fail(self, reason: str) -> LinkError:
        """Close, and return the error that says why."""
        self.close()
        return LinkError(reason)

    @abstractmethod
    def close(self) -> None:
        """Close; never raises."""

    def _new_stream(self) -> Stream:
        self._last_id += 1
        return Stream(self._last_id)

    def _check_open(self) -> None:
        if self.broken:
            raise LinkError("the connection is closed")
