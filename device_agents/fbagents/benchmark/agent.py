"""Benchmark agent: answers the agent protocol on this host by running `benchmark_model` on the device at every visit.

A visit is one process, and its one sample is the average of the inferences that the process timed: the program tells no
single ones (docs/devices/benchmark-model.md). So everything above measures with it as with any other agent.
"""

import hashlib
import json
import math
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fbagents.agent.pieces import Content, Write
from fbagents.agent.protocol import PROTOCOL, Delegate
from fbagents.benchmark.binary import NAME, RUNTIME, Benchmark, benchmark_of, check_machine
from fbagents.benchmark.facts import FACTS, STATE, Facts, parse_cores, parse_facts, parse_state
from fbagents.benchmark.output import BenchmarkRun, parse_output
from fbagents.errors import AgentLostError, AgentReplyError, AgentTimeoutError, DeviceError
from fbagents.native.build import cache_folder
from fbagents.posix.remote import how_it_ended, last_words
from fbagents.profile import Profile, default_environment
from fbagents.transports import RunsPrograms, Transport
from fbbase.errors import StorageError
from fbbase.files import storage_errors, write_text

FACTS_TIMEOUT_S = 30.0
GRACE_S = 10.0
"""How much longer the host waits than the device lets a process run."""
BOUND = "fbnet-lab cores "

# A constant, like the transports' scripts: data are its arguments. It ends what a broken connection left behind, prints
# to which cores the process is bound that becomes the program, and ends that when its time is up.
RUN = f"""
umask 077
deadline=$1; pid=$2; mask=$3; shift 3
unset LD_PRELOAD LD_LIBRARY_PATH
while [ "$1" != -- ]; do export "$1"; shift; done
shift
if [ -n "$pid" ] && [ -s "$pid" ]; then
  old=$(cat "$pid")
  case $(tr '\\0' ' ' 2>/dev/null <"/proc/$old/cmdline") in *"${{pid%.pid}}"*) kill -KILL "$old" ;; esac
  rm -f -- "$pid"
fi
if [ -n "$mask" ]; then
  command -v taskset >/dev/null || exit 125
  taskset "$mask" sh -c '
    sed -n "s/^Cpus_allowed_list:[[:space:]]*/{BOUND}/p" "/proc/$$/status"
    exec "$@"' sh "$@" </dev/null 2>&1 &
else
  "$@" </dev/null 2>&1 &
fi
run=$!
[ -z "$pid" ] || echo "$run" >"$pid"
sleep=$(
  (
    sleep "$deadline" </dev/null >/dev/null 2>&1 &
    echo "$!"
    exec </dev/null >/dev/null 2>&1
    wait "$!" && kill -KILL "$run"
  ) &
)
wait "$run"; code=$?
kill "$sleep" 2>/dev/null
exit "$code"
"""
NO_TASKSET = 125


class BenchmarkTransport:
    """A transport whose agent is this module: the device gets the program and the models, and runs the program.

    A process opens its model at every visit, so that a file that others may delete once it is loaded is copied here.
    """

    def __init__(self, transport: Transport, profile: Profile) -> None:
        if not isinstance(transport, RunsPrograms):
            raise DeviceError(f"transport {profile.transport} runs no programs, so it cannot run {NAME}: use another")
        benchmark = benchmark_of(profile)
        assert benchmark is not None
        self._transport, self._shell, self._profile, self._benchmark = transport, transport, profile, benchmark
        self.copies = transport.copies
        self._folder = None if transport.copies else tempfile.TemporaryDirectory(prefix="fbprof-")

    def push(self, path: Path) -> str:
        """Make a file available on the device, and keep it there."""
        if self._folder is None:
            return self._transport.push(path)
        kept = Path(self._folder.name) / path.name
        with storage_errors(kept):
            shutil.copyfile(path, kept)
        return self._transport.push(kept)

    def send(self, content: Content, write: Write) -> str:
        """Do the same: no agent runs there that could write."""
        return self.push(content.path)

    def start(self, options: Sequence[str]) -> "BenchmarkChannel":
        """Send the program and look at the device."""
        return BenchmarkChannel(self._shell, self._profile, self._benchmark, options)

    def close(self) -> None:
        """Release the device."""
        self._transport.close()
        if self._folder is not None:
            self._folder.cleanup()


class BenchmarkChannel:
    """An agent within this process; every visit is a process on the device."""

    def __init__(self, shell: RunsPrograms, profile: Profile, benchmark: Benchmark, options: Sequence[str]) -> None:
        self._shell, self._profile, self._benchmark = shell, profile, benchmark
        values = dict(zip(options[::2], options[1::2], strict=True))
        self._threads = int(values["--threads"])
        self._paths: dict[str, str] = {}
        self._delegates: dict[str, tuple[Delegate, ...]] = {}
        self._cores: list[int] | None = None
        self._timeout_s = FACTS_TIMEOUT_S
        facts = parse_facts(shell.shell(FACTS, timeout_s=FACTS_TIMEOUT_S).stdout)
        check_machine(benchmark, facts.machine, profile.name)
        self._program = shell.install(benchmark.binary)
        if "--cores" in values:
            self._cores = self._bound(values["--cores"], facts)
        self._replies: Iterator[dict[str, object]] = iter([self._hello(facts)])
        self._has_ended = False

    def send(self, line: bytes, following: bytes = b"") -> None:
        """Ask the agent something."""
        if self._has_ended:
            raise AgentLostError(f"the agent of {NAME} has ended")
        request = json.loads(line)
        operation = {"load": self._load, "run": self._run, "unload": self._unload, "state": self._state}
        self._replies = operation.get(request["op"], self._bye)(request)

    def receive(self, timeout_s: float) -> bytes:
        """Return the next line, for which a process may have to run. Raises AgentReplyError where it failed."""
        self._timeout_s = timeout_s
        reply = next(self._replies, None)
        if reply is None:
            raise AgentLostError(f"the agent of {NAME} has nothing to say: nothing was asked")
        return json.dumps(reply).encode()

    def close(self) -> None:
        """End the agent."""
        self._has_ended = True
        self._replies = iter(())

    def _hello(self, facts: Facts) -> dict[str, object]:
        return {
            "event": "hello",
            "protocol": PROTOCOL,
            "agent": self._benchmark.agent,
            "runtimes": {RUNTIME: self._benchmark.version},
            "threads": self._threads,
            "cores": self._cores,
            "clusters": facts.clusters_told,
            "clocks": ["wall"],
            "soc": facts.soc,
            "system": facts.system,
        }

    def _load(self, request: dict[str, Any]) -> Iterator[dict[str, object]]:
        """Run the model once as a visit does: that it can be run, and by what, is known before it is measured."""
        model = request["model"]
        if request["runtime"] != RUNTIME:
            raise AgentReplyError(f"{NAME} runs models of {RUNTIME}, not of {request['runtime']}")
        run = self._process(request["path"])
        self._paths[model] = request["path"]
        self._delegates[model] = run.delegates
        yield {
            "event": "loaded",
            "id": request["id"],
            "model": model,
            "load_ns": round(1e3 * run.init_us),
            "outputs": 0,
            "output_sum": 0.0,
            "output_abs_sum": 0.0,
            "delegates": [delegate.model_dump() for delegate in self._told(run.delegates)],
        }

    def _run(self, request: dict[str, Any]) -> Iterator[dict[str, object]]:
        schedule = request["schedule"]
        for index, visit in enumerate(schedule):
            model = visit["model"]
            if model not in self._paths:
                raise AgentReplyError(f"visit {index}: model {model!r} is not loaded")
            if visit["runs"] != 1:
                raise AgentReplyError(f"{NAME} tells one average of a visit and no single runs: ask for 1 run a visit")
            start_ns = time.monotonic_ns()
            run = self._process(self._paths[model])
            if run.delegates != self._delegates[model]:
                now, then = ("; ".join(map(str, d)) or "none" for d in (run.delegates, self._delegates[model]))
                raise AgentReplyError(f"other delegates run the model than when it was loaded: {now}, not {then}")
            yield {
                "event": "visit",
                "id": request["id"],
                "index": index,
                "model": model,
                "start_ns": start_ns,
                "wall_ns": [round(1e3 * run.measured.avg_us)],
                "cpu_ns": None,
            }
        yield {"event": "done", "id": request["id"], "visits": len(schedule)}

    def _unload(self, request: dict[str, Any]) -> Iterator[dict[str, object]]:
        del self._paths[request["model"]], self._delegates[request["model"]]
        yield {"event": "unloaded", "id": request["id"], "model": request["model"]}

    def _state(self, request: dict[str, Any]) -> Iterator[dict[str, object]]:
        state = parse_state(self._shell.shell(STATE, timeout_s=FACTS_TIMEOUT_S).stdout)
        yield {"event": "state", "id": request["id"], "affinity": self._cores, **state}

    def _bye(self, request: dict[str, Any]) -> Iterator[dict[str, object]]:
        yield {"event": "bye", "id": request["id"]}

    def _told(self, delegates: Sequence[Delegate]) -> list[Delegate]:
        """Return what the program told of its delegates, and which of those asked for it did not speak of.

        LiteRT 2 gives delegates other names than its arguments do: any is taken for the one that was asked for.
        """
        names = {delegate.name.lower() for delegate in delegates}
        silent = [] if any("delegate" in name or "litert" in name for name in names) else self._benchmark.asked_for
        untold = [Delegate(name=name, extent="untold") for name in silent if name.lower() not in names]
        return [*delegates, *untold]

    def _bound(self, text: str, facts: Facts) -> list[int]:
        """Return the cores that a process of the device is bound to, having tried. Raises DeviceError."""
        cores = facts.named_cores(text)
        self._cores = cores
        self._script("true", timeout_s=FACTS_TIMEOUT_S)
        return cores

    def _process(self, model: str) -> BenchmarkRun:
        """Run the program on a model and return what it told."""
        arguments = [f"--graph={model}", f"--num_threads={self._threads}", *self._benchmark.arguments]
        text = self._script(self._program, *arguments, timeout_s=self._timeout_s)
        try:
            return parse_output(text)
        except AgentReplyError as error:
            raise AgentReplyError(f"{error}. {keep(text)}") from None

    def _script(self, program: str, *arguments: str, timeout_s: float) -> str:
        """Run a program under RUN and return what it printed. Raises DeviceError and its children."""
        mask = "" if self._cores is None else f"{sum(1 << core for core in self._cores):x}"
        own = [f"{k}={v}" for k, v in sorted(self._profile.environment.items() - default_environment().items())]
        pid = f"{self._program}.pid" if self._profile.transport != "local" else ""
        limit = str(math.ceil(timeout_s))
        start = time.monotonic()
        done = self._shell.shell(RUN, limit, pid, mask, *own, "--", program, *arguments, timeout_s=timeout_s + GRACE_S)
        text = self._without_cores(done.stdout, done.code)
        if done.code == 0:
            return text
        said = last_words(text.encode()) or done.words
        if done.code in (126, 127):
            raise DeviceError(
                f"{self._benchmark.binary} cannot be run on {self._profile.name} ({said or f'exit code {done.code}'}): "
                "a program for Android does not run on Linux, nor one for Linux on Android; take this device's"
            )
        if done.code == 137 and time.monotonic() - start >= timeout_s:
            raise AgentTimeoutError(f"{NAME} did not finish within {limit} s; it said last: {said}. {keep(text)}")
        raise AgentReplyError(f"{NAME} {how_it_ended(done.code)}: {said}. {keep(text)}")

    def _without_cores(self, text: str, code: int) -> str:
        """Return what the program printed, after the line that says to what it is bound. Raises DeviceError."""
        if self._cores is None:
            return text
        asked = ",".join(map(str, self._cores))
        if code == NO_TASKSET:
            raise DeviceError(
                f"cannot bind {NAME} to cores {asked}: {self._profile.name} has no taskset; leave out --cores"
            )
        first, _, rest = text.partition("\n")
        try:
            bound = parse_cores(first.removeprefix(BOUND)) if first.startswith(BOUND) else None
        except ValueError:
            bound = None
        if bound != self._cores:
            raise DeviceError(
                f"cannot bind {NAME} to cores {asked} of {self._profile.name}, which says "
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
