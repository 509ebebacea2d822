"""Server: an adb server that somebody runs already, its list of phones, and what it opens on them.

adbutils speaks with the server. Left to itself it starts a server where none answers; here it never does.
"""

import os
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import adbutils

from fbagents.adb.address import seen
from fbagents.adb.wire import connected
from fbagents.errors import DeviceError, UnreachableError
from fbagents.transport import Attached

DEFAULT_PORT = 5037
SERVER_TIMEOUT_S = 3.0
"""Within this time a server that is alive has answered what it knows by itself."""


class _Connection(adbutils.AdbConnection):  # type: ignore[misc]
    """adbutils' connection, to wherever `connect` leads."""

    def __init__(self, connect: Callable[[], socket.socket]) -> None:
        self._connect = connect
        super().__init__("", 0)

    def _safe_connect(self) -> socket.socket:
        return self._connect()


class _Client(adbutils.AdbClient):  # type: ignore[misc]
    """adbutils' client of one server."""

    def __init__(self, connect: Callable[[], socket.socket]) -> None:
        super().__init__("unused", DEFAULT_PORT)
        self._connect = connect

    def make_connection(self, timeout: float | None = None) -> _Connection:
        """Connect. Raises OSError."""
        connection = _Connection(self._connect)
        connection.conn.settimeout(timeout or SERVER_TIMEOUT_S)
        return connection


class Listed(NamedTuple):
    """A line of the server's list; `transport` is the server's number for this attachment of the phone."""

    serial: str
    state: str
    model: str
    transport: int


@dataclass(frozen=True, slots=True)
class Server:
    """An adb server: its name in messages, and what opens a connection to it."""

    name: str
    connect: Callable[[], socket.socket]

    def answers(self) -> bool:
        """Return whether anything listens there."""
        try:
            self.connect().close()
        except OSError:
            return False
        return True

    def phones(self) -> list[Attached]:
        """Return the phones that the server knows. Raises UnreachableError."""
        try:
            return [seen(it.serial, it.model, it.state, "server", self.name) for it in self.listed()]
        except (OSError, adbutils.AdbError) as error:
            raise UnreachableError(
                f"no adb server answers at {self.name} ({words(error)}): start one there with adb start-server"
            ) from None

    def listed(self) -> list[Listed]:
        """Return the server's list. Raises OSError, AdbError."""
        try:
            return [_listed(info) for info in _Client(self.connect).list(extended=True)]
        except ValueError as error:
            raise adbutils.AdbError(f"what answers is not an adb server: {error}") from None

    def ask(self, service: str) -> socket.socket:
        """Ask the server for a service of its own, and return what it answers on. Raises OSError, AdbError."""
        connection = _Client(self.connect).make_connection()
        try:
            connection.send_command(service)
            connection.check_okay()
        except BaseException:
            connection.conn.close()
            raise
        answers: socket.socket = connection.conn
        return answers

    def open(self, transport: int, service: bytes, timeout_s: float) -> socket.socket | None:
        """Ask a phone for a service; return its socket, or None where the phone refuses. Raises OSError, AdbError."""
        phone = adbutils.AdbDevice(_Client(self.connect), transport_id=transport)
        connection = phone.open_transport(timeout=timeout_s)
        stream: socket.socket = connection.conn
        try:
            stream.sendall(b"%04x" % len(service) + service)
            connection.check_okay()
        except BaseException as error:
            stream.close()
            if isinstance(error, adbutils.AdbError) and str(error) == "closed":
                return None
            raise
        stream.setblocking(False)
        return stream


def server_at(address: str) -> Server:
    """Return the server at `host:port`."""
    host, _, port = address.rpartition(":")

    return Server(address, lambda: connected(host.strip("[]"), int(port), SERVER_TIMEOUT_S))


def server_behind(path: str, name: str) -> Server:
    """Return the server behind a local socket."""

    def connect() -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.settimeout(SERVER_TIMEOUT_S)
            connection.connect(path)
        except OSError:
            connection.close()
            raise
        return connection

    return Server(name, connect)


def usual_server() -> Server:
    """Return the server that adb itself would use here, as the environment says. Raises DeviceError."""
    wanted = os.environ.get("ADB_SERVER_SOCKET")
    if wanted is not None:
        match = re.fullmatch(r"tcp:(?:([A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\]):)?([0-9]{1,5})", wanted)
        if match is None:
            raise DeviceError(f"ADB_SERVER_SOCKET is {wanted!r}: only tcp:PORT and tcp:HOST:PORT can be used")
        host, port = match[1] or "127.0.0.1", match[2]
    else:
        host = os.environ.get("ANDROID_ADB_SERVER_ADDRESS") or "127.0.0.1"
        port = os.environ.get("ANDROID_ADB_SERVER_PORT") or str(DEFAULT_PORT)
    if not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise DeviceError(f"the adb server's port {port!r} is none: correct ANDROID_ADB_SERVER_PORT")
    return server_at(f"{host}:{port}")


def words(error: Exception) -> str:
    """Return an error of adbutils or of a socket as a person reads it."""
    if isinstance(error, OSError):
        return str(error.strerror or error or type(error).__name__)
    text = str(error)
    return "it closed the connection" if text in ("Unknown data: b''", "connection closed") else text[:200]


def _listed(info: Any) -> Listed:
    state = "no permissions" if info.state == "no" else info.state  # the list's words go on, adbutils takes the first
    number = info.tags.get("transport_id", "")
    return Listed(info.serial, state, info.tags.get("model", ""), int(number) if number.isdigit() else 0)
