"""One adb connection over a wire: authentication, several streams, and shell v2 with its exit code.

adb-shell signs, and finds phones on USB. Its own connection is not used: it has every byte summed up on both sides,
which newer phones let be, and it takes whatever size a packet claims. Its shell() merges stdout and stderr, and has
neither an exit code nor input.
"""

import contextlib
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from fbagents.adb.wire import Wire

QUIET_S = 3.0
"""After so long without a packet the device is asked whether it is still there."""
ANSWER_TIMEOUT_S = 6.0
HANDSHAKE_TIMEOUT_S = 5.0
PACKET_TIMEOUT_S = 30.0
WRITE_TIMEOUT_S = 30.0
MAX_PACKET_BYTES = 1 << 20
CHUNK_BYTES = 1 << 18
SMALLEST_PACKET_BYTES = 4096
"""What every adbd takes, the oldest too."""
MOST_WAITING = 16
"""Packets of a stream not yet taken: the protocol allows one, and adbd sends a second where a command ends."""
MOST_UNASKED = 1000
HEADER = struct.Struct("<4s5I")
CONNECT, AUTHENTICATE, START_TLS = b"CNXN", b"AUTH", b"STLS"
OPEN, OKAY, WRITE, CLOSE = b"OPEN", b"OKAY", b"WRTE", b"CLSE"
COMMANDS = {CONNECT, AUTHENTICATE, START_TLS, OPEN, OKAY, WRITE, CLOSE, b"SYNC"}
VERSION = 0x01000001
"""The first version of the protocol without checksums; an older device answers with an older one."""
TOKEN, SIGNATURE, PUBLIC_KEY = 1, 2, 3
TOKEN_BYTES = 20
STDIN, STDOUT, STDERR, EXIT, CLOSE_STDIN = range(5)
FRAME = struct.Struct("<BI")
STDERR_BYTES = 1 << 16


class LinkError(Exception):
    """The connection broke, or what came over it is not adb."""


@dataclass(slots=True)
class Stream:
    """One service of the device; a packet is acknowledged when it is taken, so that none can flood the host."""

    local_id: int
    remote_id: int = 0
    may_write: bool = False
    closed: bool = False
    received: list[bytes] = field(default_factory=list)


class Streams(Protocol):
    """What opens streams on a phone: a Link, or a ServerLink. All but `is_open`, `fail` and `close` raise LinkError."""

    packet_bytes: int

    def open(self, service: bytes) -> Stream:
        """Open a service; the stream is closed where the device refuses it."""
        ...

    def write(self, stream: Stream, data: bytes) -> None:
        """Send up to `packet_bytes`."""
        ...

    def take(self, stream: Stream) -> bytes:
        """Return what has arrived, and let the device send more."""
        ...

    def end(self, stream: Stream) -> None:
        """Close a stream from this side."""
        ...

    def pump(self, timeout_s: float) -> bool:
        """Handle what comes next of whichever stream; return False where nothing came."""
        ...

    def is_open(self) -> bool:
        """Return whether the phone is connected, as far as this side can know without asking."""
        ...

    def fail(self, reason: str) -> LinkError:
        """Close, and return the error that says why."""
        ...

    def close(self) -> None:
        """Close; never raises."""
        ...


class Link:
    """A connection with its streams. Every method but `close` raises LinkError when the connection is broken."""

    def __init__(self, wire: Wire, signers: Sequence[Any], auth_timeout_s: float, ask: Callable[[], None]):
        """Connect over an open wire, and close it if that fails; `ask` is called where a person has to accept the key.

        Raises OSError (TimeoutError: nothing came in time), and LinkError for what is not adb.
        """
        self.broken = False
        self._wire = wire
        self._sums = True  # until the device has told its version
        self._last_id = 0
        self._streams: dict[int, Stream] = {}
        try:
            version, size, self.banner = self._connect(signers, auth_timeout_s, ask)
            if size < SMALLEST_PACKET_BYTES:
                raise LinkError(f"it takes packets of {size} bytes only")
        except BaseException:
            self.close()
            raise
        self.packet_bytes = min(size, MAX_PACKET_BYTES)
        self._sums = version < VERSION

    def open(self, service: bytes) -> Stream:
        """Open a service; the stream is closed where the device refuses it."""
        stream = Stream(self._new_id())
        self._streams[stream.local_id] = stream
        self._send(OPEN, stream.local_id, 0, service + b"\0")
        deadline = time.monotonic() + ANSWER_TIMEOUT_S
        while not stream.remote_id and not stream.closed:
            if not self.pump(deadline - time.monotonic()):
                raise self.fail("the device does not open a stream")
        return stream

    def write(self, stream: Stream, data: bytes) -> None:
        """Send up to `packet_bytes`, once the device took what was sent before."""
        deadline = time.monotonic() + WRITE_TIMEOUT_S
        while not stream.may_write and not stream.closed:
            if not self.pump(deadline - time.monotonic()):
                raise self.fail(f"what was sent has not been read for {WRITE_TIMEOUT_S:.0f} s")
        if not stream.closed:
            stream.may_write = False
            self._send(WRITE, stream.local_id, stream.remote_id, data)

    def take(self, stream: Stream) -> bytes:
        """Return what has arrived, and let the device send more."""
        received, stream.received = stream.received, []
        for _ in received if not stream.closed else ():
            self._send(OKAY, stream.local_id, stream.remote_id)
        return b"".join(received)

    def end(self, stream: Stream) -> None:
        """Close a stream from this side."""
        if self._streams.pop(stream.local_id, None) and not stream.closed:
            stream.closed = True
            self._send(CLOSE, stream.local_id, stream.remote_id)

    def pump(self, timeout_s: float) -> bool:
        """Handle one packet of whichever stream; return False where none came. A device that is gone is noticed."""
        if self.broken:
            raise LinkError("the connection is closed")
        if timeout_s < 0:
            return False
        try:
            if not self._wire.has_data(min(timeout_s, QUIET_S)):
                if timeout_s <= QUIET_S:
                    return False
                # adbd refuses a service that does not exist at once, without starting anything
                self._send(OPEN, self._new_id(), 0, b"are-you-there\0")
                if not self._wire.has_data(ANSWER_TIMEOUT_S):
                    raise self.fail(f"the device's adbd has not answered for {QUIET_S + ANSWER_TIMEOUT_S:.0f} s")
            self._dispatch(*self._read_packet(time.monotonic() + PACKET_TIMEOUT_S))
        except OSError as error:
            raise self.fail(str(error)) from None
        return True

    def is_open(self) -> bool:
        """Return whether the connection is open, as far as this side can know without asking."""
        try:
            for _ in range(MOST_UNASKED):
                if not self.pump(0):
                    return True
        except LinkError:
            return False
        self.close()
        return False

    def fail(self, reason: str) -> LinkError:
        """Close the connection, and return the error that says why."""
        self.close()
        return LinkError(reason)

    def close(self) -> None:
        """Close the connection; never raises."""
        self.broken = True
        self._wire.close()

    def _connect(
        self, signers: Sequence[Any], auth_timeout_s: float, ask: Callable[[], None]
    ) -> tuple[int, int, bytes]:
        """Introduce this side and prove that it has a key; return the device's version, packet size and banner."""
        deadline = time.monotonic() + HANDSHAKE_TIMEOUT_S
        self._send(CONNECT, VERSION, MAX_PACKET_BYTES, b"host::\0")
        untried, asked = list(signers), False
        while True:
            command, first, second, data = self._read_packet(deadline)
            if command == CONNECT:
                return first, second, data
            if command == START_TLS:
                raise LinkError("it wants TLS (STLS)")
            if command != AUTHENTICATE or asked:
                continue  # left over from an earlier connection
            if first != TOKEN or len(data) != TOKEN_BYTES:
                raise LinkError("it asks for a signature in a way that adb has not")
            if untried:
                self._send(AUTHENTICATE, SIGNATURE, 0, untried.pop(0).Sign(data))
            else:
                asked = True
                ask()
                self._send(AUTHENTICATE, PUBLIC_KEY, 0, signers[0].GetPublicKey().encode() + b"\0")
                deadline = time.monotonic() + auth_timeout_s

    def _dispatch(self, command: bytes, theirs: int, ours: int, data: bytes) -> None:
        stream = self._streams.get(ours)
        if stream is None:
            return
        if command == OKAY:
            stream.remote_id, stream.may_write = theirs, True
        elif command == WRITE:
            if len(stream.received) == MOST_WAITING:
                raise self.fail("it sends on without waiting until it may")
            stream.received.append(data)
        elif command == CLOSE:
            stream.closed = True
            del self._streams[ours]

    def _read_packet(self, deadline: float) -> tuple[bytes, int, int, bytes]:
        """Return command, sender's stream, receiver's stream and payload. Raises OSError, LinkError."""
        command, theirs, ours, size, expected, magic = HEADER.unpack(self._read(HEADER.size, deadline))
        inverted = magic ^ 0xFFFFFFFF
        if command not in COMMANDS or inverted.to_bytes(4, "little") != command or size > MAX_PACKET_BYTES:
            raise self.fail("what arrived is no adb packet")
        data = self._read(size, deadline)
        if self._sums and expected not in (0, sum(data) & 0xFFFFFFFF):  # 0: a newer device, before its CNXN
            raise self.fail("a packet arrived damaged")
        return command, theirs, ours, data

    def _read(self, size: int, deadline: float) -> bytes:
        data = bytearray()
        while len(data) < size:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise TimeoutError("a packet did not arrive in time")
            data += self._wire.read(size - len(data), min(left_s, ANSWER_TIMEOUT_S))
        return bytes(data)

    def _send(self, command: bytes, ours: int, theirs: int, data: bytes = b"") -> None:
        if self.broken:
            raise LinkError("the connection is closed")
        magic = int.from_bytes(command, "little") ^ 0xFFFFFFFF
        total = sum(data) & 0xFFFFFFFF if self._sums else 0
        try:
            self._wire.send(HEADER.pack(command, ours, theirs, len(data), total, magic), data, ANSWER_TIMEOUT_S)
        except OSError as error:
            raise self.fail(str(error)) from None

    def _new_id(self) -> int:
        self._last_id += 1
        return self._last_id


class Shell:
    """A command by shell v2: its input, its two outputs apart, and its exit code, None until it is known."""

    def __init__(self, link: Streams, command: bytes) -> None:
        self.stdout, self.stderr = bytearray(), bytearray()
        self.exit_code: int | None = None
        self._link, self._unparsed = link, bytearray()
        self._stream = link.open(b"shell,v2,raw:" + command)
        self.chunk_bytes = min(link.packet_bytes, CHUNK_BYTES) - FRAME.size

    @property
    def has_ended(self) -> bool:
        """Whether the command told its exit code, or the device closed its stream without one."""
        return self.exit_code is not None or (self._stream.closed and not self._stream.received)

    def write(self, data: bytes) -> None:
        """Write to the command's input; without effect when it has ended."""
        for start in range(0, len(data), self.chunk_bytes):
            self._frame(STDIN, data[start : start + self.chunk_bytes])

    def close_input(self) -> None:
        """End the command's input."""
        self._frame(CLOSE_STDIN, b"")

    def pump(self, timeout_s: float) -> bool:
        """Take in what comes next; return False where nothing came in time. Raises LinkError."""
        deadline = time.monotonic() + timeout_s
        while not self._stream.received and not self._stream.closed:
            left_s = deadline - time.monotonic()
            if left_s <= 0 or not self._link.pump(left_s):
                return False
        self._unparsed += self._link.take(self._stream)
        self._parse()
        return True

    def end(self) -> None:
        """Close the command's streams; never raises."""
        with contextlib.suppress(LinkError):
            self._link.end(self._stream)

    def _frame(self, kind: int, data: bytes) -> None:
        self._link.write(self._stream, FRAME.pack(kind, len(data)) + data)

    def _parse(self) -> None:
        while len(self._unparsed) >= FRAME.size:
            kind, size = FRAME.unpack_from(self._unparsed)
            end = FRAME.size + size
            if size > MAX_PACKET_BYTES:
                raise self._link.fail("what arrived is not shell v2")
            if len(self._unparsed) < end:
                break
            data = self._unparsed[FRAME.size : end]
            del self._unparsed[:end]
            if kind == STDOUT:
                self.stdout += data
            elif kind == STDERR:
                self.stderr = (self.stderr + data)[-STDERR_BYTES:]
            elif kind == EXIT and data:
                self.exit_code = data[0]
