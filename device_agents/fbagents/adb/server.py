"""Phones by an adb server that somebody runs already: its list of them, and a link whose streams are sockets to it.

adbutils speaks with the server. Left to itself it starts a server where none answers; here it never does.
"""

import os
import re
import select
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import adbutils

from fbagents.adb.link import (
    ANSWER_TIMEOUT_S,
    CHUNK_BYTES,
    MAX_PACKET_BYTES,
    QUIET_S,
    WRITE_TIMEOUT_S,
    LinkError,
    Stream,
)
from fbagents.adb.phones import READY, Attached, remedy
from fbagents.errors import DeviceError, UnreachableError

DEFAULT_PORT = 5037
SERVER_TIMEOUT_S = 3.0
"""Within this time a server that is alive has answered what it knows by itself."""
MAX_SERVICE_BYTES = 0xFFFF
MAX_NEWS_BYTES = 1 << 16


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
            return [
                Attached(it.serial, it.model, it.state, "server", self.name, remedy(it.state)) for it in self.listed()
            ]
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

    def open(self, transport: int, service: bytes) -> socket.socket | None:
        """Ask a phone for a service; return its socket, or None where the phone refuses. Raises OSError, AdbError."""
        phone = adbutils.AdbDevice(_Client(self.connect), transport_id=transport)
        connection = phone.open_transport(timeout=ANSWER_TIMEOUT_S)
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

    def connect() -> socket.socket:
        connection = socket.create_connection((host.strip("[]"), int(port)), timeout=SERVER_TIMEOUT_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    return Server(address, connect)


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


class ServerLink:
    """A phone by an adb server, in the form of a Link: every stream is a socket to the server.

    The server reports phones that come and go on a socket of its own; it does not notice one that is frozen.
    """

    def __init__(self, server: Server, serial: str) -> None:
        """Open the link. Raises LinkError."""
        self.broken = False
        self.packet_bytes = MAX_PACKET_BYTES
        self._server, self._serial = server, serial
        self._last_id = 0
        self._open: dict[int, tuple[Stream, socket.socket]] = {}
        self._unread_news = b""
        self._news: socket.socket | None = None
        try:
            self._news = server.ask("host:track-devices")
            self._news.setblocking(False)
            self._transport = self._find()
        except (OSError, adbutils.AdbError) as error:
            raise self.fail(self._gone(error)) from None

    def open(self, service: bytes) -> Stream:
        """Open a service; the stream is closed where the device refuses it."""
        if self.broken:
            raise LinkError("the connection is closed")
        if len(service) > MAX_SERVICE_BYTES:
            raise DeviceError(
                f"a command of {len(service)} bytes is more than an adb server takes: shorten environment"
            )
        self._last_id += 1
        stream = Stream(self._last_id)
        try:
            opened = self._server.open(self._transport, service)
            if opened is None:
                self._check()
        except (adbutils.AdbTimeout, TimeoutError):
            raise self.fail("the device does not open a stream") from None
        except (OSError, adbutils.AdbError) as error:
            raise self.fail(self._gone(error)) from None
        if opened is None:
            stream.closed = True
        else:
            self._open[stream.local_id] = stream, opened
        return stream

    def write(self, stream: Stream, data: bytes) -> None:
        """Send all of it, as fast as the device takes it."""
        deadline = time.monotonic() + WRITE_TIMEOUT_S
        left = memoryview(data)
        while left and not stream.closed:
            opened = self._open[stream.local_id][1]
            try:
                left = left[opened.send(left) :]
            except BlockingIOError:
                if not self._wait(deadline - time.monotonic(), opened):
                    raise self.fail(f"what was sent has not been read for {WRITE_TIMEOUT_S:.0f} s") from None
            except OSError:
                self._receive(stream, opened, to_the_end=True)

    def take(self, stream: Stream) -> bytes:
        """Return what has arrived, and let the device send more."""
        received, stream.received = stream.received, []
        return b"".join(received)

    def end(self, stream: Stream) -> None:
        """Close a stream from this side."""
        stream.closed = True
        opened = self._open.pop(stream.local_id, None)
        if opened:
            opened[1].close()

    def pump(self, timeout_s: float) -> bool:
        """Handle what comes next on whichever stream; return False where nothing came. What is gone is noticed."""
        return self._wait(timeout_s)

    def is_open(self) -> bool:
        """Return whether the phone has been there all the time, as far as the server has told."""
        try:
            while self._turn(0):
                pass
        except LinkError:
            return False
        return True

    def fail(self, reason: str) -> LinkError:
        """Close the link, and return the error that says why."""
        self.close()
        return LinkError(reason)

    def close(self) -> None:
        """Close every socket; never raises."""
        self.broken = True
        for stream, opened in self._open.values():
            stream.closed = True
            opened.close()
        self._open.clear()
        if self._news is not None:
            self._news.close()

    def _wait(self, timeout_s: float, writer: socket.socket | None = None) -> bool:
        """Wait for data, or until `writer` takes some, and ask the device whether it is there where it is silent."""
        if timeout_s < 0:
            return False
        if self._until(min(timeout_s, QUIET_S), writer):
            return True
        if timeout_s <= QUIET_S:
            return False
        self._ask_whether_it_is_there(writer)
        return True

    def _ask_whether_it_is_there(self, writer: socket.socket | None) -> None:
        """Ask for a service that does not exist, which adbd refuses without starting anything; the server passes on."""
        self._last_id += 1
        question = Stream(self._last_id)
        try:
            asked = self._server.ask(f"host:transport-id:{self._transport}")
            self._open[question.local_id] = question, asked
            asked.sendall(b"000dare-you-there")
            asked.setblocking(False)
        except (OSError, adbutils.AdbError) as error:
            raise self.fail(self._gone(error)) from None
        if not self._until(ANSWER_TIMEOUT_S, writer):
            raise self.fail(f"the device's adbd has not answered for {QUIET_S + ANSWER_TIMEOUT_S:.0f} s")
        self.end(question)

    def _until(self, timeout_s: float, writer: socket.socket | None) -> bool:
        """Turn until there is more than news of other phones."""
        deadline = time.monotonic() + timeout_s
        while not self._turn(deadline - time.monotonic(), writer):
            if time.monotonic() >= deadline:
                return False
        return True

    def _turn(self, timeout_s: float, writer: socket.socket | None = None) -> bool:
        """Take what has come; a stream of which nothing was taken since is left alone, so that none floods the host."""
        if self.broken or self._news is None:
            raise LinkError("the connection is closed")
        readers = {opened: stream for stream, opened in self._open.values() if not stream.received}
        poll = select.poll()
        for each in (self._news, *readers):
            poll.register(each, select.POLLIN)
        if writer is not None:
            poll.register(writer, select.POLLOUT | (select.POLLIN if writer in readers else 0))
        ready = {number for number, _ in poll.poll(max(timeout_s, 0.0) * 1e3)}
        if self._news.fileno() in ready:
            ready.remove(self._news.fileno())
            self._read_news()
        for opened, stream in readers.items():
            if opened.fileno() in ready:
                self._receive(stream, opened)
        return bool(ready)

    def _receive(self, stream: Stream, opened: socket.socket, to_the_end: bool = False) -> None:
        """Take in what has arrived, and at the end learn whose end it is: the stream's, the phone's, the server's."""
        while not stream.closed:
            try:
                data = opened.recv(CHUNK_BYTES)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            if data:
                stream.received.append(data)
                if not to_the_end:
                    return
            else:
                to_the_end = True
                break
        if to_the_end:
            self.end(stream)
            self._read_news()
            try:
                self._check()
            except (OSError, adbutils.AdbError) as error:
                raise self.fail(self._gone(error)) from None

    def _read_news(self) -> None:
        """Read the server's lists of phones as they changed. Raises LinkError where ours went, if only for a moment."""
        assert self._news is not None
        while True:
            try:
                data = self._news.recv(CHUNK_BYTES)
            except BlockingIOError:
                break
            except OSError as error:
                raise self.fail(self._gone(error)) from None
            if not data or len(self._unread_news) > MAX_NEWS_BYTES:
                raise self.fail(f"the adb server {self._server.name} has ended")
            self._unread_news += data
        while len(self._unread_news) >= 4:
            try:
                end = 4 + int(self._unread_news[:4], 16)
            except ValueError:
                raise self.fail(f"what answers at {self._server.name} is not an adb server") from None
            if len(self._unread_news) < end:
                break
            text = self._unread_news[4:end].decode(errors="replace")
            self._unread_news = self._unread_news[end:]
            states = dict(line.split("\t", 1) for line in text.splitlines() if "\t" in line)
            if states.get(self._serial) != READY:
                raise self.fail(_absence(states.get(self._serial)))

    def _check(self) -> None:
        """Ask the server whether this attachment of the phone still is. Raises LinkError, OSError, AdbError."""
        if self._find() != self._transport:
            raise self.fail(_absence(None))

    def _find(self) -> int:
        for phone in self._server.listed():
            if phone.serial == self._serial:
                if phone.state != READY:
                    raise self.fail(_absence(phone.state))
                return phone.transport
        raise self.fail(_absence(None))

    def _gone(self, error: Exception) -> str:
        return f"the adb server {self._server.name} says: {words(error)}"


def words(error: Exception) -> str:
    """Return an error of adbutils or of a socket as a person reads it."""
    if isinstance(error, OSError):
        return str(error.strerror or error or type(error).__name__)
    text = str(error)
    return "it closed the connection" if text in ("Unknown data: b''", "connection closed") else text[:200]


def _absence(state: str | None) -> str:
    return "the phone is no longer attached" if state is None else f"the phone is {state}"


def _listed(info: Any) -> Listed:
    state = "no permissions" if info.state == "no" else info.state  # the list's words go on, adbutils takes the first
    number = info.tags.get("transport_id", "")
    return Listed(info.serial, state, info.tags.get("model", ""), int(number) if number.isdigit() else 0)
