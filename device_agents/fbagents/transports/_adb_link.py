"""One adb connection by adb-shell: its TCP transport repaired, several streams, and shell v2 with its exit code.

adb-shell connects and authenticates. Its own shell() merges stdout and stderr, has no exit code and no input, so the
streams are read and written here.
"""

import contextlib
import select
import socket
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from adb_shell import constants
from adb_shell.adb_device import AdbDevice
from adb_shell.adb_message import AdbMessage, checksum, unpack
from adb_shell.exceptions import TcpTimeoutException
from adb_shell.transport.tcp_transport import TcpTransport

QUIET_S = 3.0
"""After so long without a packet the device is asked whether it is still there."""
ANSWER_TIMEOUT_S = 6.0
CONNECT_TIMEOUT_S = 5.0
WRITE_TIMEOUT_S = 30.0
MAX_PACKET_BYTES = 1 << 20
STDIN, STDOUT, STDERR, EXIT, CLOSE_STDIN = range(5)
FRAME = struct.Struct("<BI")
STDERR_BYTES = 1 << 16


class LinkError(Exception):
    """The connection broke, or what came over it is not adb."""


class RepairedTcp(TcpTransport):  # type: ignore[misc]
    """adb-shell's transport without waits for delayed ACKs, an endless b'' after a disconnect, and short writes."""

    def connect(self, transport_timeout_s: float | None) -> None:
        """Connect."""
        super().connect(transport_timeout_s)
        self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def bulk_read(self, numbytes: int, transport_timeout_s: float | None) -> bytes:
        """Return up to `numbytes`. Raises ConnectionResetError where the device closed the connection."""
        data: bytes = super().bulk_read(numbytes, transport_timeout_s)
        if not data:
            raise ConnectionResetError("the device closed the connection")
        return data

    def bulk_write(self, data: bytes, transport_timeout_s: float | None) -> int:
        """Write all of it."""
        left = memoryview(data)
        while left:
            left = left[super().bulk_write(left, transport_timeout_s) :]
        return len(data)

    def has_data(self, timeout_s: float) -> bool:
        """Wait until there is something to read."""
        return bool(select.select([self._connection], [], [], max(timeout_s, 0.0))[0])


@dataclass(slots=True)
class Stream:
    """One service of the device; a packet is acknowledged when it is taken, so that none can flood the host."""

    local_id: int
    remote_id: int = 0
    may_write: bool = False
    closed: bool = False
    received: list[bytes] = field(default_factory=list)


class Link:
    """A connection with its streams. Every method but `close` raises LinkError when the connection is broken."""

    def __init__(self, host: str, port: int, signers: Sequence[Any], auth_timeout_s: float, ask: Callable[[], None]):
        """Connect. Raises OSError and adb-shell's errors; `ask` is called where a person has to accept the key."""
        self._tcp = RepairedTcp(host, port)
        device = AdbDevice(self._tcp)
        try:
            device.connect(
                rsa_keys=list(signers),
                transport_timeout_s=CONNECT_TIMEOUT_S,
                auth_timeout_s=auth_timeout_s,
                auth_callback=lambda _: ask(),
            )
        except BaseException:
            self._tcp.close()
            raise
        self.chunk_bytes: int = device.max_chunk_size
        self.broken = False
        self._last_id = 0
        self._streams: dict[int, Stream] = {}

    def open(self, service: bytes) -> Stream:
        """Open a service; the stream is closed where the device refuses it."""
        stream = Stream(self._new_id())
        self._streams[stream.local_id] = stream
        self._send(constants.OPEN, stream.local_id, 0, service + b"\0")
        while not stream.remote_id and not stream.closed:
            if not self.pump(ANSWER_TIMEOUT_S):
                raise self._break("the device does not open a stream")
        return stream

    def write(self, stream: Stream, data: bytes) -> None:
        """Send up to `chunk_bytes`, once the device took what was sent before."""
        deadline = time.monotonic() + WRITE_TIMEOUT_S
        while not stream.may_write and not stream.closed:
            if not self.pump(deadline - time.monotonic()):
                raise self._break(f"what was sent has not been read for {WRITE_TIMEOUT_S:.0f} s")
        if not stream.closed:
            stream.may_write = False
            self._send(constants.WRTE, stream.local_id, stream.remote_id, data)

    def take(self, stream: Stream) -> bytes:
        """Return what has arrived, and let the device send more."""
        data, waiting = b"".join(stream.received), len(stream.received)
        stream.received.clear()
        for _ in range(waiting if not stream.closed else 0):
            self._send(constants.OKAY, stream.local_id, stream.remote_id)
        return data

    def end(self, stream: Stream) -> None:
        """Close a stream from this side."""
        if self._streams.pop(stream.local_id, None) and not stream.closed:
            stream.closed = True
            self._send(constants.CLSE, stream.local_id, stream.remote_id)

    def pump(self, timeout_s: float) -> bool:
        """Handle one packet of whichever stream; return False where none came. A device that is gone is noticed."""
        if self.broken:
            raise LinkError("the connection is closed")
        try:
            if not self._tcp.has_data(min(timeout_s, QUIET_S)):
                if timeout_s <= QUIET_S:
                    return False
                # adbd refuses a service that does not exist at once, without starting anything
                self._send(constants.OPEN, self._new_id(), 0, b"are-you-there\0")
                if not self._tcp.has_data(ANSWER_TIMEOUT_S):
                    raise self._break(f"the device's adbd has not answered for {QUIET_S + ANSWER_TIMEOUT_S:.0f} s")
            command, theirs, ours, data = self._read_packet()
            self._dispatch(command, theirs, ours, data)
        except (OSError, TcpTimeoutException) as error:
            raise self._break(str(error)) from None
        return True

    def is_open(self) -> bool:
        """Return whether the connection is open, as far as this side can know without asking."""
        try:
            while self.pump(0):
                pass
        except LinkError:
            return False
        return True

    def close(self) -> None:
        """Close the connection; never raises."""
        self.broken = True
        self._tcp.close()

    def _dispatch(self, command: bytes, theirs: int, ours: int, data: bytes) -> None:
        stream = self._streams.get(ours)
        if stream is None:
            return
        if command == constants.OKAY:
            stream.remote_id, stream.may_write = theirs, True
        elif command == constants.WRTE:
            stream.received.append(data)
        elif command == constants.CLSE:
            stream.closed = True
            del self._streams[ours]

    def _read_packet(self) -> tuple[bytes, int, int, bytes]:
        word, theirs, ours, size, expected = unpack(self._read(constants.MESSAGE_SIZE))
        command = constants.WIRE_TO_ID.get(word)
        if command is None or size > MAX_PACKET_BYTES:
            raise self._break("what answers does not speak adb")
        data = self._read(size)
        if checksum(data) != expected:
            raise self._break("a packet arrived damaged")
        return command, theirs, ours, data

    def _read(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            data += self._tcp.bulk_read(size - len(data), ANSWER_TIMEOUT_S)
        return bytes(data)

    def _send(self, command: bytes, ours: int, theirs: int, data: bytes = b"") -> None:
        if self.broken:
            raise LinkError("the connection is closed")
        try:
            self._tcp.bulk_write(AdbMessage(command, ours, theirs, data).pack() + data, ANSWER_TIMEOUT_S)
        except (OSError, TcpTimeoutException) as error:
            raise self._break(str(error)) from None

    def _new_id(self) -> int:
        self._last_id += 1
        return self._last_id

    def _break(self, reason: str) -> LinkError:
        self.close()
        return LinkError(reason)


class Shell:
    """A command by shell v2: its input, its two outputs apart, and its exit code, None until it is known."""

    def __init__(self, link: Link, command: bytes) -> None:
        self.stdout, self.stderr = bytearray(), bytearray()
        self.exit_code: int | None = None
        self._link, self._unparsed = link, bytearray()
        self._stream = link.open(b"shell,v2,raw:" + command)

    @property
    def has_ended(self) -> bool:
        """Whether the command told its exit code, or the device closed its stream without one."""
        return self.exit_code is not None or (self._stream.closed and not self._stream.received)

    def write(self, data: bytes) -> None:
        """Write to the command's input; without effect when it has ended."""
        room = self._link.chunk_bytes - FRAME.size
        for start in range(0, len(data), room):
            self._frame(STDIN, data[start : start + room])

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
                raise LinkError("what arrives is not shell v2")
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
