"""AdbConnection: shell v2 commands on a phone over one connection, which is opened again when it broke."""

import contextlib
import shlex
import socket
import time
from pathlib import Path
from typing import IO, Annotated

import click
import pydantic
from adb_shell.exceptions import AdbTimeoutError, TcpTimeoutException

from fbagents.errors import AgentLostError, AgentTimeoutError, ConnectionLostError, DeviceError, UnreachableError
from fbagents.protocol import MAX_LINE_BYTES
from fbagents.transports._adb_keys import signer
from fbagents.transports._adb_link import Link, LinkError, Shell
from fbagents.transports._adb_wire import TcpWire
from fbagents.transports._remote import Finished, cannot_be_run, how_it_ended, last_words, reopened

DEFAULT_KEY = "~/.android/adbkey"
DIALOG_TIMEOUT_S = 30.0
END_TIMEOUT_S = 2.0
STDOUT_BYTES = 1 << 16


class Address(pydantic.BaseModel):
    """Where a phone listens for adb, and the key by which it knows this computer."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, strict=True)

    host: Annotated[str, pydantic.Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.:%-]*$", max_length=255)]
    port: Annotated[int, pydantic.Field(ge=1, le=65535)] = 5555
    key_file: Annotated[str, pydantic.Field(pattern=r"^[^\x00-\x1f]+$", max_length=1000)] = DEFAULT_KEY

    def __str__(self) -> str:
        return f"{self.host} port {self.port}"


class AdbConnection:
    """One connection that every command shares, opened again when it broke."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._link: Link | None = None
        self._opened = 0

    def __str__(self) -> str:
        return str(self.address)

    def ensure(self, patient: bool = True) -> int:
        """Open the connection unless it is open, and return how many there have been. Raises DeviceError."""
        if self._link is not None and self._link.is_open():
            return self._opened
        return reopened(self._opened, patient, self._open)

    def shell(self, script: str, *arguments: str) -> Shell:
        """Start a constant POSIX shell script on the device; data are its arguments. Raises ConnectionLostError."""
        assert self._link is not None
        command = shlex.join(["sh", "-c", script, "sh", *arguments])
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
                    raise AgentTimeoutError(f"{self.address} did not finish a command within {timeout_s:.0f} s")
                del shell.stdout[STDOUT_BYTES:]
        except LinkError as error:
            raise self.lost(error) from None
        finally:
            shell.end()
        if shell.exit_code is None:
            raise ConnectionLostError(f"{self.address} ended a command without its exit code")
        return Finished(shell.exit_code, shell.stdout.decode(errors="replace"), last_words(bytes(shell.stderr)))

    def start(self, script: str, *arguments: str) -> "AdbChannel":
        """Start a script and return its streams. Raises ConnectionLostError."""
        return AdbChannel(self, self.shell(script, *arguments))

    def lost(self, error: LinkError) -> ConnectionLostError:
        """Describe how the connection ended."""
        return ConnectionLostError(f"the connection to {self.address} was lost: {error}")

    def close(self) -> None:
        """End the connection; never raises."""
        if self._link is not None:
            self._link.close()

    def _open(self) -> int:
        self._link = open_link(self.address)
        self._opened += 1
        return self._opened


class AdbChannel:
    """A script's streams."""

    def __init__(self, connection: AdbConnection, shell: Shell) -> None:
        self._connection = connection
        self._shell = shell

    def send(self, line: bytes) -> None:
        """Send one line."""
        try:
            self._shell.write(line + b"\n")
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


def open_link(address: Address) -> Link:
    """Connect and authenticate. Raises DeviceError in words that say what to do on the phone."""
    key = Path(address.key_file).expanduser()
    asked = False

    def ask() -> None:
        nonlocal asked
        asked = True
        click.echo(f"{address} asks whether it may be used: accept the dialog on the phone", err=True)

    try:
        return Link(TcpWire(address.host, address.port), [signer(key)], DIALOG_TIMEOUT_S, ask)
    except DeviceError:
        raise
    except Exception as error:  # adb-shell's errors have no common class
        silent = isinstance(error, TimeoutError | TcpTimeoutException | AdbTimeoutError)
        if asked and (silent or isinstance(error, ConnectionError)):
            return _refuse_unauthorised(address, key)
        raise _explain(error, address, silent) from None


def _refuse_unauthorised(address: Address, key: Path) -> Link:
    raise DeviceError(
        f"{address} has not authorised this computer's key {key}: unlock the phone, run the same command again, accept "
        "the dialog on the phone (Allow USB debugging) and tick Always allow from this computer"
    ) from None


def _explain(error: Exception, address: Address, silent: bool) -> DeviceError:
    if isinstance(error, socket.gaierror):
        return UnreachableError(f"the name {address.host} is not known here: check address.host, or give an IP")
    if isinstance(error, ConnectionRefusedError):
        return UnreachableError(
            f"cannot reach {address}: no adbd listens there. Is the phone on, and in this network? With a cable, "
            f"adb tcpip {address.port} makes it listen until it is restarted"
        )
    if silent:
        return UnreachableError(f"{address} does not answer: is the phone on, unlocked, and in this network?")
    if isinstance(error, OSError):
        return UnreachableError(f"cannot reach {address}: {error.strerror or error}")
    if "STLS" in str(error):
        return DeviceError(f"{address} is Android's wireless debugging, which wants TLS: use adb tcpip 5555 instead")
    return DeviceError(f"what answers at {address} does not speak adb: {str(error)[:200]}")
