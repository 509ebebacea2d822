"""Processes of this machine: one that speaks in lines, and one that is waited for."""

import contextlib
import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from typing import IO

from fbagents.agent.channel import STDOUT_BYTES, Finished, last_words
from fbagents.agent.protocol import MAX_LINE_BYTES
from fbagents.errors import AgentLostError, AgentTimeoutError, DeviceError


def finished(argv: Sequence[str], timeout_s: float, where: object, stdin: IO[bytes] | None = None) -> Finished:
    """Run a program to its end; whatever ends the waiting for it ends its processes. Raises AgentTimeoutError."""
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        process = subprocess.Popen(
            argv, stdin=stdin or subprocess.DEVNULL, stdout=stdout, stderr=stderr, start_new_session=True
        )
        try:
            code = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AgentTimeoutError(f"{where} did not finish a command within {timeout_s:.0f} s") from None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        stdout.seek(0)
        return Finished(code, stdout.read(STDOUT_BYTES).decode(errors="replace"), _last_words(stderr))


class ProcessChannel:
    """A child process that speaks in lines; it has its own session, so Ctrl-C reaches only the host."""

    def __init__(self, argv: Sequence[str], environment: dict[str, str]) -> None:
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the channel
        try:
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                env=environment,
                bufsize=0,
                start_new_session=True,
            )
        except OSError as error:
            self._stderr.close()
            raise DeviceError(f"cannot start the agent with {argv[0]}: {error.strerror}") from error
        self.pid = self._process.pid
        self.exit_code: int | None = None  # of a process that was closed, negative for a signal
        self._buffer = b""

    def send(self, line: bytes, following: bytes = b"") -> None:
        """Send one line, and bytes that follow it."""
        assert self._process.stdin is not None
        left = memoryview(line + b"\n" + following)
        try:
            while left:
                left = left[self._process.stdin.write(left) :]
        except OSError:
            raise self._lost() from None

    def receive(self, timeout_s: float) -> bytes:
        """Return the next line."""
        assert self._process.stdout is not None
        deadline = time.monotonic() + timeout_s
        while b"\n" not in self._buffer:
            remaining = deadline - time.monotonic()
            readable = remaining > 0 and select.select([self._process.stdout], [], [], remaining)[0]
            if not readable:
                raise AgentTimeoutError(f"the agent did not answer within {timeout_s:g} s")
            chunk = os.read(self._process.stdout.fileno(), 1 << 16)
            if not chunk:
                raise self._lost()
            if len(self._buffer) > MAX_LINE_BYTES:
                raise AgentLostError("the agent sends a line without an end")
            self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def close(self) -> None:
        """Close the agent's input, which ends it, and kill it if it does not end."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self.exit_code = self._process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self.exit_code = self._process.wait()
        self._process.stdout.close()
        self._stderr.close()

    def _lost(self) -> AgentLostError:
        """Describe how the process ended."""
        try:
            code = self._process.wait(timeout=2)
            how = f"was killed by signal {-code}" if code < 0 else f"ended with {code}"
        except subprocess.TimeoutExpired:
            how = "closed its output"
        words = _last_words(self._stderr)
        return AgentLostError(f"the agent {how}" + (f": {words}" if words else ""))


def _last_words(stderr: IO[bytes]) -> str:
    stderr.seek(max(stderr.seek(0, os.SEEK_END) - 4000, 0))
    return last_words(stderr.read())
