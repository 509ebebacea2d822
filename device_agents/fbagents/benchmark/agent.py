"""Benchmark agent: answers the agent protocol on this host by running `benchmark_model` on the device at every visit.

A visit is one process, and its one sample is the average of the inferences that the process timed: the program tells no
single ones (docs/devices/benchmark-model.md). So everything above measures with it as with any other agent.
"""

import contextlib
import json
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fbagents.agent.protocol import PROTOCOL, Delegate
from fbagents.benchmark.binary import NAME, RUNTIME, Benchmark, benchmark_of, check_machine
from fbagents.benchmark.facts import FACTS, STATE, Facts, parse_facts, parse_state
from fbagents.benchmark.process import Program
from fbagents.errors import AgentLostError, AgentReplyError, DeviceError
from fbagents.transport import Transport
from fbbase.files import storage_errors
from fbbase.locks import scratch_folder

FACTS_TIMEOUT_S = 30.0


class BenchmarkTransport(Transport):
    """A transport whose agent is this module: the device gets the program and the models, and runs the program.

    A process opens its model at every visit, so that a file that others may delete once it is loaded is copied here.
    """

    def __init__(self, transport: Transport) -> None:
        super().__init__(transport.profile)
        if not transport.runs_programs:
            name = transport.profile.transport
            raise DeviceError(f"transport {name} runs no programs, so it cannot run {NAME}: use another")
        benchmark = benchmark_of(transport.profile)
        assert benchmark is not None
        self._transport, self._benchmark, self.copies = transport, benchmark, transport.copies
        self._stack = contextlib.ExitStack()
        self._folder = None if transport.copies else self._stack.enter_context(scratch_folder())

    def push(self, path: Path) -> str:
        """Make a file available on the device, and keep it there."""
        if self._folder is None:
            return self._transport.push(path)
        kept = self._folder / path.name
        with storage_errors(kept):
            shutil.copyfile(path, kept)
        return self._transport.push(kept)

    def start(self, options: Sequence[str]) -> "BenchmarkChannel":
        """Send the program and look at the device."""
        return BenchmarkChannel(self._transport, self._benchmark, options)

    def close(self) -> None:
        """Release the device."""
        self._transport.close()
        self._stack.close()


class BenchmarkChannel:
    """An agent within this process; every visit is a process on the device."""

    def __init__(self, transport: Transport, benchmark: Benchmark, options: Sequence[str]) -> None:
        self._transport, self._benchmark = transport, benchmark
        values = dict(zip(options[::2], options[1::2], strict=True))
        self._threads = int(values["--threads"])
        self._paths: dict[str, str] = {}
        self._delegates: dict[str, tuple[Delegate, ...]] = {}
        self._timeout_s = FACTS_TIMEOUT_S
        facts = parse_facts(transport.run(FACTS, timeout_s=FACTS_TIMEOUT_S).stdout)
        check_machine(benchmark, facts.machine, transport.profile.name)
        self._program = Program(transport, benchmark)
        if "--cores" in values:
            self._program.bind(facts.named_cores(values["--cores"]), FACTS_TIMEOUT_S)
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
            "cores": self._program.cores,
            "clusters": facts.clusters_told,
            "clocks": ["wall"],
            "takes_inputs": True,
            "soc": facts.soc,
            "system": facts.system,
            "device_model": facts.device_model,
        }

    def _load(self, request: dict[str, Any]) -> Iterator[dict[str, object]]:
        """Run the model once as a visit does: that it can be run, and by what, is known before it is measured."""
        model = request["model"]
        if request["runtime"] != RUNTIME:
            raise AgentReplyError(f"{NAME} runs models of {RUNTIME}, not of {request['runtime']}")
        check_inputs(request)
        run = self._program.run(request["path"], self._threads, self._timeout_s)
        self._paths[model] = request["path"]
        self._delegates[model] = run.delegates
        yield {
            "event": "loaded",
            "id": request["id"],
            "model": model,
            "load_ns": round(1e3 * run.init_us),
            "first_ns": 1000 * run.warm_up.first_us,
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
            run = self._program.run(self._paths[model], self._threads, self._timeout_s)
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
        state = parse_state(self._transport.run(STATE, timeout_s=FACTS_TIMEOUT_S).stdout)
        yield {"event": "state", "id": request["id"], "affinity": self._program.cores, **state}

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


def check_inputs(request: Mapping[str, Any]) -> None:
    """Raise AgentReplyError where inputs are asked for that the program cannot be given: it makes its own."""
    if request.get("inputs_path") is not None:
        raise AgentReplyError(f"{NAME} makes its own input: values cannot be given to it; use another agent")
    inputs = request.get("inputs")
    if inputs is None or [one["element"] for one in inputs] == ["float32"]:
        return
    told = ", ".join(f"{one['name'] or number} {one['element']}" for number, one in enumerate(inputs)) or "none"
    raise AgentReplyError(f"{NAME} runs models of one float32 input, this one has {told}; use another agent")
