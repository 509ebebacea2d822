"""local: this machine; the agent is a child process, models are opened where they lie."""

import contextlib
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import fbagents
from fbagents.agent.pieces import Content, Write
from fbagents.agent.protocol import MAX_LINE_BYTES
from fbagents.errors import AgentLostError, AgentTimeoutError, DeviceError
from fbagents.native import build as native
from fbagents.profile import Profile
from fbagents.transports import Finished
from fbexport.runtimes import agent_sources

LAST_WORDS_BYTES = 4000
STDOUT_BYTES = 1 << 16


def connect(profile: Profile) -> "LocalTransport":
    """Return a transport to this machine."""
    return LocalTransport(profile)


class LocalTransport:
    """Starts the Python agent with this Python or the one the profile names, or builds and starts the native one."""

    copies = False

    def __init__(self, profile: Profile) -> None:
        self._profile = profile

    def push(self, path: Path) -> str:
        """Return the path itself."""
        return str(Path(path).resolve())

    def send(self, content: Content, write: Write) -> str:
        """Return the path itself."""
        return self.push(content.path)

    def start(self, options: Sequence[str]) -> "ProcessChannel":
        """Start the agent."""
        if self._profile.program is not None:
            agent = [self._profile.program]
        elif self._profile.agent == "native":
            agent = [str(native.build(native.host_target())), *native.runtime_options()]
        else:
            agent = [self._profile.python or sys.executable, *python_agent(self.push)]
        return ProcessChannel([*agent, *options], os.environ | self._profile.environment)

    def install(self, program: Path) -> str:
        """Return the program's path. Raises DeviceError where it may not be executed."""
        path = self.push(program)
        if not os.access(path, os.X_OK):
            raise DeviceError(f"{program} is not executable: chmod +x {program}")
        return path

    def shell(self, script: str, *arguments: str, timeout_s: float) -> Finished:
        """Run a script; whatever ends the waiting for it ends its processes."""
        with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
            process = subprocess.Popen(
                ["sh", "-c", script, "sh", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
            )
            try:
                code = process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                raise AgentTimeoutError(f"this machine did not finish a command within {timeout_s:.0f} s") from None
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            stdout.seek(0)
            stderr.seek(max(stderr.seek(0, os.SEEK_END) - LAST_WORDS_BYTES, 0))
            words = stderr.read().decode(errors="replace").strip()
            return Finished(code, stdout.read(STDOUT_BYTES).decode(errors="replace"), words[-600:])

    def close(self) -> None:
        """Do nothing: nothing was pushed."""


def agent_script() -> Path:
    """Return the Python agent's file, in the checkout or in the installed package."""
    package = Path(fbagents.__file__).parent
    for folder in (package / "on-device", package.parent / "on-device"):
        if (folder / "agent.py").is_file():
            return folder / "agent.py"
    raise DeviceError(f"the agent's file on-device/agent.py is missing beside {package}: install the package again")


def python_agent(push: Callable[[Path], str]) -> list[str]:
    """Return the Python agent and the runtimes of packages outside, each by the path that `push` gives its file."""
    return [push(agent_script()), *(word for path in agent_sources() for word in ("--runtime", push(path)))]


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
            self._process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._stderr.close()

    def _lost(self) -> AgentLostError:
        """Describe how the process ended."""
        try:
            code: int | None = self._process.wait(timeout=2)
        except subprocess.TimeoutExpired:
            code = None
        self._stderr.seek(max(self._stderr.seek(0, os.SEEK_END) - LAST_WORDS_BYTES, 0))
        words = self._stderr.read().decode(errors="replace").strip().splitlines()[-5:]
        how = (
            "closed its output"
            if code is None
            else f"was killed by signal {-code}"
            if code < 0
            else f"ended with {code}"
        )
        return AgentLostError(f"the agent {how}" + (": " + " | ".join(words) if words else ""))
