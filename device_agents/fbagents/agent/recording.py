"""Recording: what a replayed device knows, read from the journal of an earlier run (NAME.journal.jsonl or .xz)."""

import contextlib
import lzma
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import pydantic

from fbagents.agent.cores import check_cores
from fbagents.agent.protocol import MAX_LINE_BYTES, PROTOCOL, Hello, Loaded, State, Visit
from fbagents.errors import DeviceError, ProfileError
from fbbase.files import open_regular

MAX_BYTES = 1 << 30
"""A journal of hours is smaller; what a few bytes of .xz may unpack to is not bounded otherwise."""

_Key = Annotated[str, pydantic.Field(max_length=2000)]


class _Identity(pydantic.BaseModel):
    runtime: _Key
    threads: Annotated[int, pydantic.Field(ge=1)]
    runs: Annotated[int, pydantic.Field(ge=1)]
    cores: list[int] | str | None = None


class _Start(pydantic.BaseModel):
    record: Literal["start"]
    version: Literal[2]
    identity: _Identity
    started_at: _Key


class _Session(pydantic.BaseModel):
    record: Literal["session"]
    hello: Hello


class _Loaded(pydantic.BaseModel):
    record: Literal["loaded"]
    key: _Key
    loaded: Loaded


class _State(pydantic.BaseModel):
    record: Literal["state"]
    state: State


class _Visited(pydantic.BaseModel):
    record: Literal["visit"]
    key: _Key
    warm_up: bool = False
    visit: Visit


class _Failed(pydantic.BaseModel):
    record: Literal["failed"]
    key: _Key
    reason: Annotated[str, pydantic.Field(max_length=10_000)]


class _Placed(pydantic.BaseModel):
    """What the host found out of a model's kernels, and no reply of the agent."""

    record: Literal["placed"]


_Record = _Start | _Session | _Loaded | _State | _Visited | _Failed | _Placed
_ADAPTER: pydantic.TypeAdapter[_Record] = pydantic.TypeAdapter(
    Annotated[_Record, pydantic.Field(discriminator="record")]
)


class RecordedVisit(NamedTuple):
    """The end of a visit's reply, from its samples on, and how long the visit took."""

    rest: bytes
    took_ns: int


@dataclass(slots=True)
class RecordedLoad:
    """What the agent answered when it loaded a model, and the visits that warmed it up."""

    loaded: dict[str, Any]
    warm_up: list[RecordedVisit] = field(default_factory=list)


@dataclass(slots=True)
class Recording:
    """A run's replies by model; `hello` says that it is a replay, of what and from when."""

    runtime: str
    threads: int
    runs: int
    cores: str | None
    hello: dict[str, Any] = field(default_factory=dict)
    states: list[dict[str, Any]] = field(default_factory=list)
    loads: dict[str, list[RecordedLoad]] = field(default_factory=lambda: defaultdict(list))
    visits: dict[str, list[RecordedVisit]] = field(default_factory=lambda: defaultdict(list))
    failed: dict[str, str] = field(default_factory=dict)


def read_recording(path: Path, max_bytes: int = MAX_BYTES) -> Recording:
    """Read a journal. A last line that was torn is left out.

    Raises ProfileError that names the file, and the line that is none of a journal.
    """
    recording: Recording | None = None
    started_at = ""
    for number, line in enumerate(_lines(path, max_bytes), start=1):
        try:
            record = _ADAPTER.validate_json(line)
            if isinstance(record, _Start) != (recording is None):
                raise ValueError("a journal begins with its one start record")
            if isinstance(record, _Start):
                identity, started_at = record.identity, record.started_at
                cores = identity.cores
                text = check_cores(",".join(map(str, cores))) if isinstance(cores, list) else cores
                recording = Recording(identity.runtime, identity.threads, identity.runs, text)
            elif recording is not None:
                _add(recording, record, path.name, started_at)
        except pydantic.ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            raise ProfileError(f"{path}: line {number}: damaged: {first['msg']}") from None
        except (ValueError, DeviceError) as error:
            raise ProfileError(f"{path}: line {number}: {error}") from None
    if recording is None or not recording.hello:
        raise ProfileError(f"{path} records no run: address.journal names what fbprof measure keeps beside its table")
    return recording


def _add(recording: Recording, record: _Record, name: str, started_at: str) -> None:
    """Take in one record. Raises ValueError where it does not belong there."""
    match record:
        case _Session(hello=hello):
            recording.hello = recording.hello or _replayed(hello, recording.runtime, name, started_at)
        case _Loaded(key=key, loaded=loaded):
            recording.loads[key].append(RecordedLoad(loaded.model_dump(mode="json", exclude={"id", "event"})))
        case _State(state=state):
            recording.states.append(state.model_dump(mode="json", exclude={"id", "event"}))
        case _Visited(key=key, warm_up=warm_up, visit=visit):
            if len(visit.wall_ns) != recording.runs:
                raise ValueError(f"a visit has {len(visit.wall_ns)} runs, the journal says {recording.runs}")
            if not recording.loads[key]:
                raise ValueError(f"a visit to {key!r:.200}, which was not loaded")
            rest = visit.model_dump_json(exclude={"id", "event", "index", "model", "start_ns"}).encode()
            done = RecordedVisit(rest[1:], sum(visit.wall_ns))
            (recording.loads[key][-1].warm_up if warm_up else recording.visits[key]).append(done)
        case _Failed(key=key, reason=reason):
            recording.failed[key] = reason.removeprefix("cannot be loaded: ")


def _replayed(hello: Hello, runtime: str, name: str, started_at: str) -> dict[str, Any]:
    """Return the hello of a replay: no table made with it may pass for one that was measured now."""
    if runtime not in hello.runtimes:
        raise ValueError(f"the agent has no runtime {runtime}, which the journal says it measured with")
    return hello.model_dump(mode="json", exclude={"id", "event"}) | {
        "agent": f"replay of {hello.agent}"[:2000],
        "soc": f"replay of {hello.soc}"[:2000],
        "system": f"replay of {name[:200]}: {hello.system}"[:2000],
        "device_model": hello.device_model and f"replay of {hello.device_model}"[:2000],
        "runtimes": {runtime: hello.runtimes[runtime]},
        "protocol": PROTOCOL,
        "takes_inputs": True,
        "recorded_at": hello.recorded_at or started_at,
    }


def _lines(path: Path, max_bytes: int) -> Iterator[bytes]:
    """Yield the lines of a journal, each whole. Raises ProfileError."""
    if not path.exists():
        raise ProfileError(f"{path}: there is no such journal; a relative path begins in the current folder")
    try:
        with (
            open_regular(path, "recorded journal", max_bytes, ProfileError) as plain,
            lzma.open(plain) if path.suffix == ".xz" else contextlib.nullcontext(plain) as file,
        ):
            number = size = 0
            while line := file.readline(MAX_LINE_BYTES + 1):
                number += 1
                size += len(line)
                if size > max_bytes:
                    raise ProfileError(f"{path}: line {number}: more than {max_bytes} bytes")
                if len(line) > MAX_LINE_BYTES:
                    raise ProfileError(f"{path}: line {number}: the line is longer than {MAX_LINE_BYTES} bytes")
                if line.endswith(b"\n"):
                    yield line
    except (OSError, EOFError, lzma.LZMAError) as error:
        raise ProfileError(f"cannot read journal {path}: {error}") from error
