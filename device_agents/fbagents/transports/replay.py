"""replay: a device that answers from the journal of an earlier run, as fast as possible or in that run's own time."""

import functools
import itertools
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import pydantic

from fbagents.agent.protocol import MAX_LINE_BYTES
from fbagents.agent.recording import RecordedVisit, Recording, read_recording
from fbagents.errors import AgentLostError, AgentTimeoutError
from fbagents.profile import Profile, check_address
from fbagents.transport import Transport


class Address(pydantic.BaseModel, extra="forbid", frozen=True, strict=True):
    """A journal, plain or .xz, and how much faster than its device it is replayed; at 0 without waiting at all."""

    journal: Annotated[str, pydantic.Field(min_length=1, pattern=r"^[^\x00]+$")]
    speed: Annotated[float, pydantic.Field(ge=0, le=1e6, allow_inf_nan=False)] = 0.0


class Replay(Transport):
    """Plays the device of a recording; a second agent goes on where the first one was."""

    copies = False

    def __init__(self, profile: Profile) -> None:
        """Read the recording. Raises ProfileError where the journal cannot be read."""
        super().__init__(profile)
        address = check_address(profile, Address)
        self._device = _Device(read_recording(Path(address.journal).expanduser()))
        self._speed = address.speed

    def push(self, path: Path) -> str:
        """Return the path; nobody opens it."""
        return str(path)

    def start(self, options: Sequence[str]) -> "_Channel":
        """Start an agent of the recording."""
        return _Channel(self._device, options, self._speed)


class _Reply(NamedTuple):
    """A line, and how long the recorded device took for it."""

    line: bytes
    took_ns: int = 0


class _Channel:
    """An agent within this process; its replies come when the recorded device's would have come."""

    def __init__(self, device: "_Device", options: Sequence[str], speed: float) -> None:
        self._device, self._speed = device, speed
        self._loaded: set[str] = set()
        self._due_s = time.monotonic()
        self._replies: Iterator[_Reply] = device.hello(options)
        self._next: _Reply | None = None
        self._has_ended = False

    def send(self, line: bytes, following: bytes = b"") -> None:
        """Ask the agent something."""
        if self._has_ended:
            raise AgentLostError("the replay has ended")
        self._due_s = time.monotonic()
        self._replies = self._answer(line)

    def receive(self, timeout_s: float) -> bytes:
        """Return the next line."""
        if self._next is None:
            self._next = next(self._replies, None)
            if self._next is None and self._has_ended:
                raise AgentLostError("the replay has ended")
            if self._next is None:
                raise AgentTimeoutError("the replay has nothing to say: nothing was asked")
            if self._speed:
                self._due_s += self._next.took_ns / 1e9 / self._speed
        wait_s = self._due_s - time.monotonic()
        if self._speed and wait_s > 0:
            time.sleep(min(wait_s, timeout_s))
            if wait_s > timeout_s:
                raise AgentTimeoutError(f"the agent did not answer within {timeout_s:g} s")
        line, self._next = self._next.line, None
        return line

    def close(self) -> None:
        """End the agent."""
        self._has_ended = True
        self._replies = iter(())

    def _answer(self, line: bytes) -> Iterator[_Reply]:
        number: int | None = None
        operations = {"load": self._load, "run": self._run, "unload": self._unload, "state": self._state}
        try:
            if len(line) > MAX_LINE_BYTES:
                raise ValueError(f"longer than {MAX_LINE_BYTES} bytes")
            request = json.loads(line)
            number, operation = request["id"], request["op"]
            if operation == "bye":
                self._has_ended = True
                yield _reply(number, "bye")
            elif operation in operations:
                yield from operations[operation](number, request)
            else:
                raise ValueError(f"unknown operation {operation!r}; known: {', '.join([*operations, 'bye'])}")
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            yield _reply(number, "error", message=f"{type(error).__name__}: {error}"[:2000])

    def _load(self, number: int | None, request: dict[str, Any]) -> Iterator[_Reply]:
        model, runtime, recorded = request["model"], request["runtime"], self._device.recording.runtime
        if runtime != recorded:
            raise ValueError(f"unknown runtime {runtime!r}; known: {recorded}")
        loaded = self._device.load(model)
        self._loaded.add(model)
        yield _reply(number, "loaded", loaded["load_ns"], **loaded | {"model": model})

    def _run(self, number: int | None, request: dict[str, Any]) -> Iterator[_Reply]:
        schedule, runs = request["schedule"], self._device.recording.runs
        for index, planned in enumerate(schedule):
            model = planned["model"]
            if model not in self._loaded:
                raise ValueError(f"visit {index}: model {model!r} is not loaded")
            if planned["runs"] != runs:
                raise ValueError(f"visit {index}: the recording has {runs} runs at every visit, not {planned['runs']}")
            visit, start_ns = self._device.visit(model)
            head = f'{{"id":{number},"event":"visit","index":{index},"model":{_quoted(model)},"start_ns":{start_ns},'
            yield _Reply(head.encode() + visit.rest, visit.took_ns)
        yield _reply(number, "done", visits=len(schedule))

    def _unload(self, number: int | None, request: dict[str, Any]) -> Iterator[_Reply]:
        self._loaded.remove(request["model"])
        yield _reply(number, "unloaded", model=request["model"])

    def _state(self, number: int | None, request: dict[str, Any]) -> Iterator[_Reply]:
        yield _reply(number, "state", **self._device.state())


class _Device:
    """Where each part of a recording is; what is at its end begins again."""

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self._loads = {model: itertools.cycle(loads) for model, loads in recording.loads.items()}
        self._visits = {model: itertools.cycle(visits) for model, visits in recording.visits.items()}
        self._states = itertools.cycle(recording.states or [{}])
        self._warm_up: dict[str, list[RecordedVisit]] = {}
        self._clock_ns = 0

    def hello(self, options: Sequence[str]) -> Iterator[_Reply]:
        """Say hello, or that the recording was made otherwise than asked for."""
        asked = dict(zip(options[::2], options[1::2], strict=False))
        made = {"--threads": str(self.recording.threads), "--cores": self.recording.cores}
        for option, value in made.items():
            if asked.get(option) != value:
                ours, theirs = (f"with {option} {v}" if v else f"without {option}" for v in (asked.get(option), value))
                yield _reply(None, "error", message=f"the recording was made {theirs}, it cannot be replayed {ours}")
                return
        yield _reply(None, "hello", **self.recording.hello)

    def load(self, model: str) -> dict[str, Any]:
        """Return what was recorded of the next load of a model; its warm-up visits come next. Raises LookupError."""
        if model not in self._loads:
            raise LookupError(self.recording.failed.get(model) or f"the recording has no model {model!r}")
        load = next(self._loads[model])
        self._warm_up[model] = load.warm_up[::-1]
        return load.loaded

    def visit(self, model: str) -> tuple[RecordedVisit, int]:
        """Return the next visit of a model and when it begins. Raises LookupError where there is none."""
        if not self._warm_up.get(model) and model not in self._visits:
            raise LookupError(f"the recording has no visit to {model!r}")
        visit = self._warm_up[model].pop() if self._warm_up.get(model) else next(self._visits[model])
        start_ns = self._clock_ns
        self._clock_ns += visit.took_ns
        return visit, start_ns

    def state(self) -> dict[str, Any]:
        """Return the next state. It comes before and after visits that count: what is left of warm-up is dropped."""
        self._warm_up.clear()
        return next(self._states)


def _reply(number: int | None, event: str, took_ns: int = 0, **fields: Any) -> _Reply:
    return _Reply(json.dumps(fields | {"id": number, "event": event}, separators=(",", ":")).encode(), took_ns)


_quoted = functools.lru_cache(maxsize=4096)(json.dumps)
