"""Processes of benchmark_model on a device: bound to cores and ended in time; what they print is kept if of no use."""

import hashlib
import math
import time

from fbagents.agent.channel import last_words
from fbagents.agent.cores import check_cores
from fbagents.benchmark.binary import NAME, Benchmark
from fbagents.benchmark.output import BenchmarkRun, parse_output
from fbagents.errors import AgentReplyError, AgentTimeoutError, DeviceError
from fbagents.native.build import cache_folder
from fbagents.posix.connection import how_it_ended
from fbagents.posix.scripts import script
from fbagents.profile import default_environment
from fbagents.transport import Transport
from fbbase.errors import FbError, StorageError
from fbbase.files import write_text

GRACE_S = 10.0
"""How much longer the host waits than the device lets a process run."""
BOUND = "fbnet-lab cores "
"""What RUN prints before the cores that the process is bound to."""

RUN = script(__package__, "run")
NO_TASKSET = 125


class Program:
    """The program on a device; every run of it is a process."""

    def __init__(self, transport: Transport, benchmark: Benchmark) -> None:
        """Send the program. Raises DeviceError."""
        self._transport, self._benchmark = transport, benchmark
        self._path = transport.install(benchmark.binary)
        self.cores: list[int] | None = None

    def bind(self, cores: list[int], timeout_s: float) -> None:
        """Bind what runs from now on to cores, having tried. Raises DeviceError."""
        self.cores = cores
        self._script("true", timeout_s=timeout_s)

    def run(self, model: str, threads: int, timeout_s: float) -> BenchmarkRun:
        """Run it on a model and return what it told. Raises DeviceError and its children."""
        arguments = [f"--graph={model}", f"--num_threads={threads}", *self._benchmark.arguments]
        text = self._script(self._path, *arguments, timeout_s=timeout_s)
        try:
            return parse_output(text)
        except AgentReplyError as error:
            raise AgentReplyError(f"{error}. {keep(text)}") from None

    def _script(self, program: str, *arguments: str, timeout_s: float) -> str:
        """Run a program under RUN and return what it printed. Raises DeviceError and its children."""
        profile = self._transport.profile
        mask = "" if self.cores is None else f"{sum(1 << core for core in self.cores):x}"
        own = [f"{k}={v}" for k, v in sorted(profile.environment.items() - default_environment().items())]
        pid = f"{self._path}.pid" if self._transport.copies else ""  # else the user's own folder would get the file
        limit = str(math.ceil(timeout_s))
        start = time.monotonic()
        done = self._transport.run(
            RUN, limit, pid, mask, *own, "--", program, *arguments, timeout_s=timeout_s + GRACE_S
        )
        text = self._without_cores(done.stdout, done.code)
        if done.code == 0:
            return text
        said = last_words(text.encode()) or done.words
        if done.code in (126, 127):
            raise DeviceError(
                f"{self._benchmark.binary} cannot be run on {profile.name} ({said or f'exit code {done.code}'}): "
                "a program for Android does not run on Linux, nor one for Linux on Android; take this device's"
            )
        if done.code == 137 and time.monotonic() - start >= timeout_s:
            raise AgentTimeoutError(f"{NAME} did not finish within {limit} s; it said last: {said}. {keep(text)}")
        raise AgentReplyError(f"{NAME} {how_it_ended(done.code)}: {said}. {keep(text)}")

    def _without_cores(self, text: str, code: int) -> str:
        """Return what the program printed, after the line that says to what it is bound. Raises DeviceError."""
        if self.cores is None:
            return text
        asked = ",".join(map(str, self.cores))
        if code == NO_TASKSET:
            raise DeviceError(
                f"cannot bind {NAME} to cores {asked}: {self._transport.profile.name} has no taskset; leave out --cores"
            )
        first, _, rest = text.partition("\n")
        try:
            bound = check_cores(first.removeprefix(BOUND)) if first.startswith(BOUND) else ""
        except FbError:
            bound = ""
        if bound != asked:
            raise DeviceError(
                f"cannot bind {NAME} to cores {asked} of {self._transport.profile.name}, which says "
                f"{last_words(first.encode())!r}: name cores that are there and on, or leave out --cores"
            )
        return rest


def keep(text: str) -> str:
    """Write down what the program printed, and say where; the same text gets the same file."""
    path = cache_folder() / NAME / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.txt"
    try:
        write_text(path, text)
    except StorageError as error:
        return f"What it printed could not be kept ({error})"
    return f"All that it printed is in {path}"
