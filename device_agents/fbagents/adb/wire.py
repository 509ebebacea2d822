"""What carries adb's packets to a phone and back: the protocol of a wire, and the wire over TCP."""

import contextlib
import select
import socket
import time
from typing import Protocol


class Wire(Protocol):
    """An open way to one adbd. Every method but `close` raises OSError where it is broken, TimeoutError in time."""

    def has_data(self, timeout_s: float) -> bool:
        """Wait until a packet begins to arrive; return False where none does."""

    def read(self, size_bytes: int, timeout_s: float) -> bytes:
        """Return at least one byte and at most `size_bytes`, which belong to one header or one payload."""

    def send(self, header: bytes, payload: bytes, timeout_s: float) -> None:
        """Send a packet, all of it."""

    def close(self) -> None:
        """Close it; never raises, and may be called again."""


def connected(host: str, port: int, timeout_s: float) -> socket.socket:
    """Return a TCP connection that does not wait to fill segments. Raises OSError."""
    connection = socket.create_connection((host, port), timeout=timeout_s)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


class TcpWire:
    """A TCP connection that does not take a closed connection for silence."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)

    def has_data(self, timeout_s: float) -> bool:
        """Wait until there is something to read, or the end."""
        return bool(self._poll.poll(max(timeout_s, 0.0) * 1e3))

    def read(self, size_bytes: int, timeout_s: float) -> bytes:
        """Return what has come. Raises ConnectionResetError where the device closed the connection."""
        self._socket.settimeout(timeout_s)
        data = self._socket.recv(size_bytes)
        if not data:
            raise ConnectionResetError("the device closed the connection")
        return data

    def send(self, header: bytes, payload: bytes, timeout_s: float) -> None:
        """Send both at once, without joining them."""
        deadline = time.monotonic() + timeout_s
        self._socket.settimeout(timeout_s)
        sent = self._socket.sendmsg([header, payload])
        if sent < len(header) + len(payload):
            rest = memoryview(payload)[sent - len(header) :] if sent >= len(header) else header[sent:] + payload
            self._socket.settimeout(max(deadline - time.monotonic(), 0.001))
            self._socket.sendall(rest)

    def close(self) -> None:
        """Close the connection."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
