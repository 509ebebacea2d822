"""Processes of Python that have torch from the start: a server imports the libraries once, and forks for each.

Without it most of what these processes take is importing torch: 5 s of CPU for a search of 1 s. A process runs as
`python -c` and `python -m` run it, to its own end, with its own signals; the project itself is imported in it, from
its own PYTHONPATH. Where starting Python is tested, tests start Python. The workers of pytest are such processes too:
this file takes the words of `python` as a program (Makefile).
"""

import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

VARIABLE = "FBNET_LAB_TEST_SERVER"
PIPE, DEVNULL = subprocess.PIPE, subprocess.DEVNULL


def start_server(folder: Path) -> subprocess.Popen[bytes]:
    """Start the server, for this process and those that it starts; it ends when its input does."""
    os.environ[VARIABLE] = str(folder / "server")
    command = [sys.executable, str(Path(__file__).with_name("process_server.py")), os.environ[VARIABLE]]
    server = subprocess.Popen(command, stdin=PIPE, stdout=PIPE)
    assert server.stdout is not None
    with server.stdout as told:
        told.readline()
    return server


class Python:
    """A process as subprocess.Popen gives it, of the words after `python`: `-c` or `-m`, and what follows.

    `network` is the name of the network namespace in which it runs.
    """

    def __init__(
        self,
        words: Sequence[str],
        stdin: int | IO[Any] = DEVNULL,
        stdout: int | IO[Any] | None = None,
        stderr: int | IO[Any] | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | Path = ".",
        start_new_session: bool = False,
        network: str | None = None,
    ) -> None:
        self.args = list(words)
        self.returncode: int | None = None
        self.stdout: IO[str] | None = None
        self.stderr: IO[str] | None = None
        descriptors, own = [], []
        for name, given, usual in (("stdin", stdin, 0), ("stdout", stdout, 1), ("stderr", stderr, 2)):
            if given == PIPE:
                ours, theirs = os.pipe()
                setattr(self, name, os.fdopen(ours))
                own.append(theirs)
            elif given == DEVNULL:
                theirs = os.open(os.devnull, os.O_RDWR)
                own.append(theirs)
            else:
                theirs = usual if given is None else given if isinstance(given, int) else given.fileno()
            descriptors.append(theirs)
        request = {
            "words": self.args,
            "env": dict(os.environ if env is None else env),
            "cwd": str(Path(cwd).resolve()),
            "in_new_session": start_new_session,
            "network": network,
        }
        self.server = socket.socket(socket.AF_UNIX)
        self.server.connect(os.environ[VARIABLE])
        socket.send_fds(self.server, [b"."], descriptors)
        self.server.sendall(json.dumps(request).encode() + b"\n")
        self.told = self.server.makefile()
        for descriptor in own:
            os.close(descriptor)
        self.pid = int(self.told.readline())

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            ready, _, _ = select.select([self.server], [], [], timeout if timeout is None else max(0, timeout))
            if not ready:
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            self.returncode = os.waitstatus_to_exitcode(int(self.told.readline()))
            self.told.close()
            self.server.close()
        return self.returncode

    def poll(self) -> int | None:
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Return what it still writes, and wait for it to end."""
        with ThreadPoolExecutor() as pool:
            reading = [pool.submit(each.read) if each else None for each in (self.stdout, self.stderr)]
            try:
                self.wait(timeout)
            except BaseException:
                self.kill()
                raise
            out, err = (each.result() if each else "" for each in reading)
        return out, err

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        for stream in (self.stdout, self.stderr):
            if stream:
                stream.close()
        self.wait()


def run(words: Sequence[str], input: str = "", timeout: float = 120, **more: Any) -> subprocess.CompletedProcess[str]:
    """Run Python to its end, as subprocess.run does that captures the output."""
    reading, writing = os.pipe()
    with os.fdopen(reading) as stdin, Python(words, stdin, PIPE, PIPE, **more) as process:
        with os.fdopen(writing, "w") as given:
            given.write(input)
        out, err = process.communicate(timeout)
    assert process.returncode is not None
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


if __name__ == "__main__":
    sys.exit(Python([word for word in sys.argv[1:] if word != "-u"], stdin=0).wait())
