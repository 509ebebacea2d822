"""AdbConnection: commands on a phone over one connection, which is opened again when it broke."""

import contextlib
import shlex
import time
from typing import IO

from fbagents.adb.address import Address
from fbagents.adb.command import Command
from fbagents.adb.link import Link, LinkError, Timeouts
from fbagents.adb.route import Route
from fbagents.agent.channel import STDOUT_BYTES, Finished, last_words
from fbagents.agent.protocol import MAX_LINE_BYTES
from fbagents.errors import AgentLostError, AgentTimeoutError, ConnectionLostError
from fbagents.posix.connection import Connection, cannot_be_run, how_it_ended

END_TIMEOUT_S = 2.0


class AdbConnection(Connection):
    """One connection that every command shares, opened again when it broke."""

    def __init__(self, address: Address, timeouts: Timeouts | None = None) -> None:
        self._route = Route(address, timeouts)
        self._link: Link | None = None

    def __str__(self) -> str:
        return str(self._route)

    def is_open(self) -> bool:
        """Return whether the phone is connected, as far as this side can know without asking."""
        return self._link is not None and self._link.is_open()

    def open(self) -> None:
        """Connect and authenticate. Raises DeviceError."""
        self._link = self._route.open()

    def command(self, script: str, *arguments: str) -> Command:
        """Start a constant POSIX shell script on the device; data are its arguments. Raises ConnectionLostError."""
        assert self._link is not None
        text = f"set -- {shlex.join(arguments)}\n{script}"
        try:
            return Command(self._link, text.encode(errors="surrogateescape"))
        except LinkError as error:
            raise self.lost(error) from None

    def run(self, script: str, *arguments: str, stdin: IO[bytes] | None = None, timeout_s: float) -> Finished:
        """Run a script. Raises ConnectionLostError, AgentTimeoutError."""
        deadline = time.monotonic() + timeout_s
        command = self.command(script, *arguments)
        try:
            while stdin and not command.has_ended and (data := stdin.read(command.chunk_bytes)):
                command.write(data)
            command.close_input()
            while not command.has_ended:
                if not command.pump(deadline - time.monotonic()):
                    raise AgentTimeoutError(f"{self} did not finish a command within {timeout_s:.0f} s")
                del command.stdout[STDOUT_BYTES:]
        except LinkError as error:
            raise self.lost(error) from None
        finally:
            command.end()
        if command.exit_code is None:
            raise ConnectionLostError(f"{self} ended a command without its exit code")
        return Finished(command.exit_code, command.stdout.decode(errors="replace"), last_words(bytes(command.stderr)))

    def start(self, script: str, *arguments: str) -> "AdbChannel":
        """Start a script and return its streams. Raises ConnectionLostError."""
        return AdbChannel(self, self.command(script, *arguments))

    def lost(self, error: LinkError) -> ConnectionLostError:
        """Describe how the connection ended."""
        return ConnectionLostError(f"the connection to {self} was lost: {error}")

    def close(self) -> None:
        """End the connection; never raises."""
        if self._link is not None:
            self._link.close()
        self._route.close()


class AdbChannel:
    """A script's streams."""

    def __init__(self, connection: AdbConnection, command: Command) -> None:
        self._connection = connection
        self._command = command

    def send(self, line: bytes, following: bytes = b"") -> None:
        """Send one line, and bytes that follow it."""
        try:
            self._command.write(line + b"\n" + following)
        except LinkError as error:
            raise self._connection.lost(error) from None
        if self._command.has_ended:
            raise self._lost()

    def receive(self, timeout_s: float) -> bytes:
        """Return the next line."""
        deadline = time.monotonic() + timeout_s
        output = self._command.stdout
        try:
            while b"\n" not in output:
                if self._command.has_ended or len(output) > MAX_LINE_BYTES:
                    raise self._lost()
                if not self._command.pump(deadline - time.monotonic()):
                    raise AgentTimeoutError(f"the agent did not answer within {timeout_s:g} s")
        except LinkError as error:
            raise self._connection.lost(error) from None
        line, _, rest = bytes(output).partition(b"\n")
        output[:] = rest
        return line

    def close(self) -> None:
        """Close the agent's input, which ends it, and its streams."""
        with contextlib.suppress(LinkError):
            deadline = time.monotonic() + END_TIMEOUT_S
            self._command.close_input()
            while not self._command.has_ended and self._command.pump(deadline - time.monotonic()):
                self._command.stdout.clear()
        self._command.end()

    def _lost(self) -> AgentLostError:
        """Describe how the process ended."""
        code, words = self._command.exit_code, last_words(bytes(self._command.stderr))
        if code is not None:
            how, words = how_it_ended(code), words + cannot_be_run(code, self._connection)
        elif self._command.has_ended:
            how = "was lost: the device closed its streams without an exit code"
        else:
            how = "sends a line without an end"
        return AgentLostError(f"the agent {how}" + (f": {words}" if words else ""))
