"""Packets: one adb connection over a wire, with its authentication and several streams.

adb-shell signs, and finds phones on USB. Its own connection is not used: it has every byte summed up on both sides,
which newer phones let be, and it takes whatever size a packet claims. Its shell() merges stdout and stderr, and has
neither an exit code nor input.
"""

import struct
import time
from collections.abc import Callable, Sequence
from typing import Any

from fbagents.adb.link import MAX_PACKET_BYTES, Link, LinkError, Stream, Timeouts
from fbagents.adb.wire import Wire

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


class PacketLink(Link):
    """A connection to adbd itself."""

    def __init__(self, wire: Wire, signers: Sequence[Any], timeouts: Timeouts, ask: Callable[[], None]):
        """Connect over an open wire, and close it if that fails; `ask` is called where a person has to accept the key.

        Raises OSError (TimeoutError: nothing came in time), and LinkError for what is not adb.
        """
        super().__init__(timeouts)
        self._wire = wire
        self._sums = True  # until the device has told its version
        self._streams: dict[int, Stream] = {}
        try:
            version, size, self.banner = self._connect(signers, ask)
            if size < SMALLEST_PACKET_BYTES:
                raise LinkError(f"it takes packets of {size} bytes only")
        except BaseException:
            self.close()
            raise
        self.packet_bytes = min(size, MAX_PACKET_BYTES)
        self._sums = version < VERSION

    def open(self, service: bytes) -> Stream:
        """Open a service; the stream is closed where the device refuses it."""
        stream = self._new_stream()
        self._streams[stream.local_id] = stream
        self._send(OPEN, stream.local_id, 0, service + b"\0")
        deadline = time.monotonic() + self.timeouts.answer_s
        while not stream.remote_id and not stream.closed:
            if not self.pump(deadline - time.monotonic()):
                raise self.fail("the device does not open a stream")
        return stream

    def write(self, stream: Stream, data: bytes) -> None:
        """Send up to `packet_bytes`, once the device took what was sent before."""
        deadline = time.monotonic() + self.timeouts.write_s
        while not stream.may_write and not stream.closed:
            if not self.pump(deadline - time.monotonic()):
                raise self.fail(f"what was sent has not been read for {self.timeouts.write_s:.0f} s")
        if not stream.closed:
            stream.may_write = False
            self._send(WRITE, stream.local_id, stream.remote_id, data)

    def take(self, stream: Stream) -> bytes:
        """Return what has arrived, and let the device send more."""
        for _ in stream.received if not stream.closed else ():
            self._send(OKAY, stream.local_id, stream.remote_id)
        return super().take(stream)

    def end(self, stream: Stream) -> None:
        """Close a stream from this side."""
        if self._streams.pop(stream.local_id, None) and not stream.closed:
            stream.closed = True
            self._send(CLOSE, stream.local_id, stream.remote_id)

    def pump(self, timeout_s: float) -> bool:
        """Handle one packet of whichever stream; return False where none came."""
        self._check_open()
        quiet_s, answer_s = self.timeouts.quiet_s, self.timeouts.answer_s
        if timeout_s < 0:
            return False
        try:
            if not self._wire.has_data(min(timeout_s, quiet_s)):
                if timeout_s <= quiet_s:
                    return False
                # adbd refuses a service that does not exist at once, without starting anything
                self._send(OPEN, self._new_stream().local_id, 0, b"are-you-there\0")
                if not self._wire.has_data(answer_s):
                    raise self.fail(f"the device's adbd has not answered for {quiet_s + answer_s:.0f} s")
            self._dispatch(*self._read_packet(time.monotonic() + self.timeouts.packet_s))
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

    def close(self) -> None:
        """Close the connection; never raises."""
        self.broken = True
        self._wire.close()

    def _connect(self, signers: Sequence[Any], ask: Callable[[], None]) -> tuple[int, int, bytes]:
        """Introduce this side and prove that it has a key; return the device's version, packet size and banner.

        Raises OSError, LinkError.
        """
        deadline = time.monotonic() + self.timeouts.handshake_s
        self._write_packet(CONNECT, VERSION, MAX_PACKET_BYTES, b"host::\0")
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
                self._write_packet(AUTHENTICATE, SIGNATURE, 0, untried.pop(0).Sign(data))
            else:
                asked = True
                ask()
                self._write_packet(AUTHENTICATE, PUBLIC_KEY, 0, signers[0].GetPublicKey().encode() + b"\0")
                deadline = time.monotonic() + self.timeouts.dialog_s

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
            data += self._wire.read(size - len(data), min(left_s, self.timeouts.answer_s))
        return bytes(data)

    def _send(self, command: bytes, ours: int, theirs: int, data: bytes = b"") -> None:
        self._check_open()
        try:
            self._write_packet(command, ours, theirs, data)
        except OSError as error:
            raise self.fail(str(error)) from None

    def _write_packet(self, command: bytes, ours: int, theirs: int, data: bytes) -> None:
        """Send a packet. Raises OSError."""
        magic = int.from_bytes(command, "little") ^ 0xFFFFFFFF
        total = sum(data) & 0xFFFFFFFF if self._sums else 0
        self._wire.send(HEADER.pack(command, ours, theirs, len(data), total, magic), data, self.timeouts.answer_s)
