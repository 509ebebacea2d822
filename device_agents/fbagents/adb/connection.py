"""AdbConnection: shell v2 commands on a phone over one connection, which is opened again when it broke."""

import contextlib
import shlex
import time
from typing import IO

from fbagents.adb.address import Address
from fbagents.adb.link import LinkError, Shell, Streams
from fbagents.adb.route import Route
from fbagents.agent.protocol import MAX_LINE_BYTES
from fbagents.errors import AgentLostError, AgentTimeoutError, ConnectionLostError
from fbagents.posix.remote import cannot_be_run, how_it_ended, last_words, reopened
from fbagents.transports import Finished

END_TIMEOUT_S = 2.0
STDOUT_BYTES = 1 << 16


class AdbConnection:
    """One connection that every command shares, opened again when it broke."""

    def __init__(self, address: Address) -> None:
        self._route = Route(address)
        self._link: Streams | None = None
        self._opened = 0

    def __str__(self) -> str:
        return str(self._route)

    def ensure(self, patient: bool = True) -> int:
        """Open the connection unless it is open, and return how many there have been. Raises DeviceError."""
        if self._link is not None and self._link.is_open():
            return self._opened
        return reopened(self._opened, patient, self._open)

    def shell(self, script: str, *arguments: str) -> Shell:
        """Start a constant POSIX shell script on the device; data are its arguments. Raises ConnectionLostError."""
        assert self._link is not None
        command = f"set -- {shlex.join(arguments)}\n{script}"
        try:
            return Shell(self._link, command.encode(errors="surrogateescape"))
        except LinkError as error:
            raise self.lost(error) from None

    def run(self, script: str, *arguments: str, stdin: IO[bytes] | None = None, timeout_s: float) -> Finished:
        """Run a script. Raises ConnectionLostError, AgentTimeoutError."""
        deadline = time.monotonic() + timeout_s
        shell = self.shell(script, *arguments)
        try:
            while stdin and not shell.has_ended and (data := stdin.read(shell.chunk_bytes)):
                shell.write(data)
            shell.close_input()
            while not shell.has_ended:
                if not shell.pump(deadline - time.monotonic()):
                    raise AgentTimeoutError(f"{self} did not finish a command within {timeout_s:.0f} s")
                del shell.stdout[STDOUT_BYTES:]
        except LinkError as error:
            raise self.lost(error) from None
        finally:
            shell.end()
        if shell.exit_code is None:
            raise ConnectionLostError(f"{self} ended a command without its exit code")
        return Finished(shell.exit_code, shell.stdout.decode(errors="replace"), last_words(bytes(shell.stderr)))

    def start(self, script: str, *arguments: str) -> "AdbChannel":
        """Start a script and return its streams. Raises ConnectionLostError."""
        return AdbChannel(self, self.shell(script, *arguments))

    def lost(self, error: LinkError) -> ConnectionLostError:
        """Describe how the connection ended."""
        return ConnectionLostError(f"the connection to {self} was lost: {error}")

    def close(self) -> None:
        """End the connection; never raises."""
        if self._link is not None:
            self._link.close()
        self._route.close()

    def _open(self) -> int:
        self._link = self._route.open()
        self._opened += 1
        return self._opened


class AdbChannel:
    """A script's streams."""

    def __init__(self, connection: AdbConnection, shell: Shell) -> None:
        self._connection = connection
        self._shell = shell

    def send(self, line: bytes, following: bytes = b"") -> None:
        """Send one line, and bytes that follow it."""
        try:
            self._shell.write(line + b"\n" + following)
        except LinkError as error:
            raise self._connection.lost(error) from None
        if self._shell.has_ended:
            raise self._lost()

    def receive(self, timeout_s: float) -> bytes:
        """Return the next line."""
        deadline = time.monotonic() + timeout_s
        output = self._shell.stdout
        try:
            while b"\n" not in output:
                if self._shell.has_ended or len(output) > MAX_LINE_BYTES:
                    raise self._lost()
                if not self._shell.pump(deadline - time.monotonic()):
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
            self._shell.close_input()
            while not self._shell.has_ended and self._shell.pump(deadline - time.monotonic()):
                self._shell.stdout.clear()
        self._shell.end()

    def _lost(self) -> AgentLostError:
        """Describe how the process ended."""
        code = self._shell.exit_code
        if code is None and self._shell.has_ended:
            how = "was lost: the device closed its streams without an exit code"
        elif code is None:
            how = "sends a line without an end"
        else:
            how = how_it_ended(code)
        words = last_words(bytes(self._shell.stderr))
        if code is not None:
            words += cannot_be_run(code, self._connection)
        return AgentLostError(f"the agent {how}" + (f": {words}" if words else ""))
