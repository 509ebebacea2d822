"""ServerLink: a phone by an adb server, which passes streams on and tells when phones come and go."""

import contextlib
import select
import socket
import time
from collections.abc import Iterator

from fbagents.adb.address import READY
from fbagents.adb.link import CHUNK_BYTES, Link, LinkError, Stream, Timeouts
from fbagents.adb.server import Server, words
from fbagents.errors import DeviceError

MAX_SERVICE_BYTES = 0xFFFF
MAX_NEWS_BYTES = 1 << 16


class ServerLink(Link):
    """A phone by an adb server: every stream is a socket to the server.

    The server reports phones that come and go on a socket of its own; it does not notice one that is frozen.
    """

    def __init__(self, server: Server, name: str, timeouts: Timeouts) -> None:
        """Open the link to the phone of a serial, or at a place of the server's list. Raises LinkError."""
        super().__init__(timeouts)
        self._server = server
        self._open: dict[int, tuple[Stream, socket.socket]] = {}
        self._unread_news = b""
        self._news: socket.socket | None = None
        with self._asking():
            self._news = server.ask("host:track-devices")
            self._news.setblocking(False)
            self._serial, self._transport, self._is_alone = self._find(name)

    def open(self, service: bytes) -> Stream:
        """Open a service; the stream is closed where the device refuses it."""
        self._check_open()
        if len(service) > MAX_SERVICE_BYTES:
            raise DeviceError(
                f"a command of {len(service)} bytes is more than an adb server takes: shorten environment"
            )
        stream = self._new_stream()
        with self._asking():
            try:
                opened = self._server.open(self._transport, service, self.timeouts.answer_s)
                if opened is None:
                    self._check()
            except TimeoutError:
                raise self.fail("the device does not open a stream") from None
        if opened is None:
            stream.closed = True
        else:
            self._open[stream.local_id] = stream, opened
        return stream

    def write(self, stream: Stream, data: bytes) -> None:
        """Send all of it, as fast as the device takes it."""
        deadline = time.monotonic() + self.timeouts.write_s
        left = memoryview(data)
        while left and not stream.closed:
            opened = self._open[stream.local_id][1]
            try:
                left = left[opened.send(left) :]
            except BlockingIOError:
                if not self.pump(deadline - time.monotonic(), opened):
                    raise self.fail(f"what was sent has not been read for {self.timeouts.write_s:.0f} s") from None
            except OSError:
                self._receive(stream, opened, to_the_end=True)

    def end(self, stream: Stream) -> None:
        """Close a stream from this side."""
        stream.closed = True
        opened = self._open.pop(stream.local_id, None)
        if opened:
            opened[1].close()

    def pump(self, timeout_s: float, writer: socket.socket | None = None) -> bool:
        """Handle what comes next on whichever stream, or wait until `writer` takes data; return False if nothing came.

        A device that is silent is asked whether it is there.
        """
        quiet_s = self.timeouts.quiet_s
        if timeout_s < 0:
            return False
        if self._until(min(timeout_s, quiet_s), writer):
            return True
        if timeout_s <= quiet_s:
            return False
        self._ask_whether_it_is_there(writer)
        return True

    def is_open(self) -> bool:
        """Return whether the phone has been there all the time, as far as the server has told."""
        try:
            while self._turn(0):
                pass
        except LinkError:
            return False
        return True

    def close(self) -> None:
        """Close every socket; never raises."""
        self.broken = True
        for stream, opened in self._open.values():
            stream.closed = True
            opened.close()
        self._open.clear()
        if self._news is not None:
            self._news.close()

    def _ask_whether_it_is_there(self, writer: socket.socket | None) -> None:
        """Ask for a service that does not exist, which adbd refuses without starting anything; the server passes on."""
        question = self._new_stream()
        with self._asking():
            asked = self._server.ask(f"host:transport-id:{self._transport}")
            self._open[question.local_id] = question, asked
            asked.sendall(b"000dare-you-there")
            asked.setblocking(False)
        if not self._until(self.timeouts.answer_s, writer):
            silent_s = self.timeouts.quiet_s + self.timeouts.answer_s
            raise self.fail(f"the device's adbd has not answered for {silent_s:.0f} s")
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
        self._check_open()
        assert self._news is not None
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
            with self._asking():
                self._check()

    def _read_news(self) -> None:
        """Read the server's lists of phones as they changed. Raises LinkError where ours went, if only for a moment."""
        assert self._news is not None
        while True:
            with self._asking():
                try:
                    data = self._news.recv(CHUNK_BYTES)
                except BlockingIOError:
                    break
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
            lines = [line.rsplit("\t", 1) for line in text.splitlines() if "\t" in line]
            states = [state for serial, state in lines if serial == self._serial]
            self._is_alone &= len(states) < 2
            if not self._is_alone:  # another phone has its serial: only the server's number tells which of them this is
                with self._asking():
                    self._check()
            elif states != [READY]:
                raise self.fail(_absence(states[0] if states else None))

    def _check(self) -> None:
        """Ask the server whether this attachment of the phone still is. Raises LinkError, OSError."""
        states = [phone.state for phone in self._server.listed() if phone.transport == self._transport]
        if states != [READY]:
            raise self.fail(_absence(states[0] if states else None))

    def _find(self, name: str) -> tuple[str, int, bool]:
        """Return a phone's serial, its number, and whether no other has its serial. Raises LinkError, OSError."""
        listed = self._server.listed()
        found = next((phone for phone in listed if name in (phone.serial, *phone.places)), None)
        if found is None or found.state != READY:
            raise self.fail(_absence(found and found.state))
        return found.serial, found.transport, sum(phone.serial == found.serial for phone in listed) == 1

    @contextlib.contextmanager
    def _asking(self) -> Iterator[None]:
        """Close the link where the server fails, with what it says. Raises LinkError."""
        try:
            yield
        except OSError as error:
            raise self.fail(f"the adb server {self._server.name} says: {words(error)}") from None


def _absence(state: str | None) -> str:
    return "the phone is no longer attached" if state is None else f"the phone is {state}"
