"""Command: a script on the phone by shell v2, which keeps its two outputs apart and has an exit code."""

import contextlib
import struct
import time

from fbagents.adb.link import CHUNK_BYTES, MAX_PACKET_BYTES, Link, LinkError

STDIN, STDOUT, STDERR, EXIT, CLOSE_STDIN = range(5)
FRAME = struct.Struct("<BI")
STDERR_BYTES = 1 << 16


class Command:
    """A script that runs on the phone; `exit_code` is None until it is known."""

    def __init__(self, link: Link, command: bytes) -> None:
        self.stdout, self.stderr = bytearray(), bytearray()
        self.exit_code: int | None = None
        self._link, self._unparsed = link, bytearray()
        self.stream = link.open(b"shell,v2,raw:" + command)
        self.chunk_bytes = min(link.packet_bytes, CHUNK_BYTES) - FRAME.size

    @property
    def has_ended(self) -> bool:
        """Whether the command told its exit code, or the device closed its stream without one."""
        return self.exit_code is not None or (self.stream.closed and not self.stream.received)

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
        while not self.stream.received and not self.stream.closed:
            left_s = deadline - time.monotonic()
            if left_s <= 0 or not self._link.pump(left_s):
                return False
        self._unparsed += self._link.take(self.stream)
        self._parse()
        return True

    def end(self) -> None:
        """Close the command's streams; never raises."""
        with contextlib.suppress(LinkError):
            self._link.end(self.stream)

    def _frame(self, kind: int, data: bytes) -> None:
        self._link.write(self.stream, FRAME.pack(kind, len(data)) + data)

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
