"""Server: an adb server that somebody runs already, its list of phones, and what it opens on them; none is started."""

import contextlib
import os
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from fbagents.adb.address import seen, told_apart
from fbagents.adb.wire import connected
from fbagents.errors import DeviceError, UnreachableError
from fbagents.transport import Attached

DEFAULT_PORT = 5037
NO_SERIAL = "(no serial number)"
STATES = (
    "device", "offline", "unauthorized", "authorizing", "connecting", "no permissions", "recovery", "rescue",
    "sideload", "bootloader", "host", "detached", "unknown",
)  # fmt: skip
"""What a server calls a phone's state: where a line's serial ends."""
SERVER_TIMEOUT_S = 3.0
"""Within this time a server that is alive has answered what it knows by itself."""


class ServerError(OSError):
    """What answers is not an adb server, or it refuses; the text says which."""


class Listed(NamedTuple):
    """A line of the server's list; `transport` is the server's number for this attachment of the phone."""

    serial: str
    state: str
    model: str
    transport: int
    usb: str = ""

    @property
    def known(self) -> str:
        """The serial, empty where there is none."""
        return "" if self.serial == NO_SERIAL else self.serial

    @property
    def places(self) -> list[str]:
        """What tells the phone from others of its serial, that which outlasts a pulled cable first."""
        return list(filter(None, [self.usb, f"transport:{self.transport}" if self.transport else ""]))


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
            phones = [seen(it.known, it.model, it.state, "server", self.name, places=it.places) for it in self.listed()]
        except OSError as error:
            raise UnreachableError(
                f"no adb server answers at {self.name} ({words(error)}): start one there with adb start-server"
            ) from None
        return told_apart(phones)

    def listed(self) -> list[Listed]:
        """Return the server's list. Raises OSError."""
        with contextlib.closing(self.ask("host:devices-l")) as answers:
            return [_listed(line) for line in _block(answers).splitlines()]

    def ask(self, service: str) -> socket.socket:
        """Ask the server for a service of its own, and return what it answers on. Raises OSError."""
        answers = self.connect()
        try:
            _request(answers, service.encode())
        except BaseException:
            answers.close()
            raise
        return answers

    def open(self, transport: int, service: bytes, timeout_s: float) -> socket.socket | None:
        """Ask a phone for a service; return its socket, or None where the phone refuses. Raises OSError."""
        stream = self.ask(f"host:transport-id:{transport}")
        stream.settimeout(timeout_s)
        try:
            _request(stream, service)
        except BaseException as error:
            stream.close()
            if isinstance(error, ServerError) and str(error) == "closed":
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


def words(error: OSError) -> str:
    """Return an error of a server or a socket as a person reads it."""
    return str(error.strerror or error or type(error).__name__)


def _request(connection: socket.socket, service: bytes) -> None:
    connection.sendall(b"%04x" % len(service) + service)
    answer = _read(connection, 4)
    if answer == b"FAIL":
        raise ServerError(" ".join(_block(connection)[:200].split()))
    if answer != b"OKAY":
        raise ServerError(f"what answers is not an adb server: {answer!r}")


def _block(connection: socket.socket) -> str:
    """Return a text that the server sends after its length."""
    size = _read(connection, 4)
    try:
        return _read(connection, int(size, 16)).decode(errors="replace")
    except ValueError:
        raise ServerError(f"what answers is not an adb server: {size!r}") from None


def _read(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = connection.recv(size - len(data))
        if not more:
            raise ServerError("it closed the connection")
        data += more
    return data


def _listed(line: str) -> Listed:
    """Return a line of `adb devices -l`: a serial, which may hold blanks, a state, then words on it, and tags."""
    match = re.fullmatch(rf"(.+?) +({'|'.join(STATES)})(?: (.*))?", line) or re.fullmatch(r"(\S+) +(\S+)(.*)", line)
    serial, state, rest = match.groups("") if match else (line, "", "")
    known = dict(tag.split(":", 1) for tag in rest.split() if ":" in tag)
    number = known.get("transport_id", "")
    usb = f"usb:{known['usb']}" if "usb" in known else ""
    return Listed(serial, state, known.get("model", ""), int(number) if number.isdigit() else 0, usb)
