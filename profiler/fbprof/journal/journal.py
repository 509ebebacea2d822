"""Journal: raw samples, appended as they arrive; tables are derived from it and can be derived again."""

import contextlib
import hashlib
import itertools
import json
import os
from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import pydantic

from fbagents.agent.cores import check_cores
from fbagents.agent.protocol import NOT_FINITE, Delegate, Hello, Loaded, State
from fbbase.errors import FbError
from fbbase.files import read_bytes, storage_errors
from fbbase.locks import open_locked
from fbprof.errors import JournalError
from fbprof.journal.visits import Visited, Visits

_IDENTITY: dict[str, Any] = {
    "space": str, "device": str, "runtime": str, "precision": str, "threads": int, "runs": int, "dropped": int,
    "seed": int, "cores": str | list | None,
}  # fmt: skip
"""What every journal's identity has, by type."""

MOST_BYTES = 1 << 30
"""A journal of hours is smaller."""


class _Record(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")


class Start(_Record):
    """First line: which run this is."""

    record: Literal["start"] = "start"
    version: Literal[2] = 2
    identity: dict[str, Any]
    timing: str
    started_at: str
    tool_version: str

    @pydantic.field_validator("identity")
    @classmethod
    def _cores_as_text(cls, identity: dict[str, Any]) -> dict[str, Any]:
        """Take the list of cores that earlier journals have."""
        cores = identity.get("cores")
        try:
            return identity | {"cores": check_cores(",".join(map(str, cores)))} if isinstance(cores, list) else identity
        except FbError as error:
            raise ValueError(str(error)) from None


class Session(_Record):
    """An agent was started."""

    record: Literal["session"] = "session"
    hello: Hello


class ModelLoaded(_Record):
    """A subject's model is loaded."""

    record: Literal["loaded"] = "loaded"
    key: str
    loaded: Loaded


class Placed(_Record):
    """Where this host's runtime puts a model's operators that have no kernel of the precision asked for."""

    record: Literal["placed"] = "placed"
    key: str
    fallbacks: tuple[str, ...]


class StateRead(_Record):
    """The device's state before or after a block of visits."""

    record: Literal["state"] = "state"
    state: State


class Failed(_Record):
    """A subject cannot be measured, and why."""

    record: Literal["failed"] = "failed"
    key: str
    reason: str


Record = Start | Session | ModelLoaded | Placed | StateRead | Visited | Failed
_ADAPTER: pydantic.TypeAdapter[Record] = pydantic.TypeAdapter(Annotated[Record, pydantic.Field(discriminator="record")])


@dataclass(slots=True)
class JournalContent:
    """Everything a journal holds, by kind; `good_bytes` is where a torn last line begins, if there is one.

    `visits` are those that count, in order of time, and `load_numbers` says which load of its model each was visited
    in; `counts` is their number by key, `loads` how often each model was loaded, `loaded` what
    the agent said each time, and `delegates` the delegates that ran it: more than one set where they changed.
    """

    start: Start
    sessions: list[Session] = field(default_factory=list)
    states: list[State] = field(default_factory=list)
    visits: Visits = field(default_factory=Visits)
    load_numbers: "array[int]" = field(default_factory=lambda: array("l"))
    loads: Counter[str] = field(default_factory=Counter)
    failed: dict[str, str] = field(default_factory=dict)
    fallbacks: dict[str, tuple[str, ...]] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    delegates: dict[str, dict[tuple[Delegate, ...], None]] = field(default_factory=dict)
    loaded: dict[str, list[Loaded]] = field(default_factory=dict)
    good_bytes: int = 0

    def add(self, record: Record) -> None:
        """Take in one more record."""
        match record:
            case Session():
                self.sessions.append(record)
            case StateRead():
                self.states.append(record.state)
            case Start() | Visited(warm_up=True):
                pass
            case Visited():
                self.visits.append(record)
                self.load_numbers.append(self.loads[record.key])
                self.counts[record.key] += 1
            case Failed():
                self.failed[record.key] = record.reason
            case Placed():
                self.fallbacks[record.key] = record.fallbacks
            case ModelLoaded():
                if not record.loaded.is_finite:  # earlier versions measured it all the same
                    self.failed[record.key] = NOT_FINITE
                self.loads[record.key] += 1
                self.loaded.setdefault(record.key, []).append(record.loaded)
                self.delegates.setdefault(record.key, {})[record.loaded.delegates] = None


def journal_path(table: Path) -> Path:
    """Return where the raw samples of a table lie."""
    return table.with_suffix(".journal.jsonl")


def read_journal(path: Path) -> JournalContent | None:
    """Read a journal; None where there is none yet. A torn last line is left out.

    Raises JournalError with the line number where anything else is damaged.
    """
    if not path.exists():
        return None
    raw = read_bytes(path, "journal", MOST_BYTES, JournalError)
    whole, newline, _torn = raw.rpartition(b"\n")
    content: JournalContent | None = None
    visits: set[bytes] = set()  # of this session: a line that was copied is no second measurement
    for number, line in enumerate(whole.split(b"\n") if newline else [], start=1):
        try:
            record = _ADAPTER.validate_json(line)
        except pydantic.ValidationError as error:
            raise JournalError(f"{path}: line {number}: damaged: {error.errors()[0]['msg']}") from None
        except RecursionError:
            raise JournalError(f"{path}: line {number}: damaged: nested too deep") from None
        if isinstance(record, Start) != (content is None):
            raise JournalError(f"{path}: line {number}: a journal begins with its one start record")
        if isinstance(record, Start):
            content = JournalContent(record)
        elif content is not None:
            if isinstance(record, Session):
                visits.clear()
            elif isinstance(record, Visited):
                digest = hashlib.blake2b(line, digest_size=16).digest()
                if digest in visits:
                    continue
                visits.add(digest)
            content.add(record)
    if content is not None:
        content.good_bytes = len(whole) + 1
    return content


def read_measured(path: Path) -> JournalContent | None:
    """Read a journal of which a table is made. Raises JournalError also where it does not say of what it is."""
    content = read_journal(path)
    if content is not None:
        for name, kinds in _IDENTITY.items():
            value = content.start.identity.get(name, ...)
            if not isinstance(value, kinds) or isinstance(value, bool):
                raise JournalError(f"{path}: line 1: damaged: its identity has no {name}, or one of another type")
        check_sessions(path, content)
    return content


def check_sessions(path: Path, content: JournalContent) -> None:
    """Raise JournalError where nothing says on what device a journal's visits were."""
    if content.visits and not content.sessions:
        raise JournalError(
            f"{path}: damaged: it has visits but no session, which says what device they were on: measure anew"
        )


def count_visits(path: Path) -> int:
    """Return how many visits that count a journal holds, without judging anything else in it; 0 if there is none."""
    try:
        with path.open("rb") as file:
            whole = (line for line in file if line.startswith(b'{"record":"visit"') and line.endswith(b"}\n"))
            return sum(b'"warm_up":false' in line for line in whole)
    except OSError:
        return 0


class JournalWriter:
    """Appends records to a journal that only this process writes; a context manager that closes its handle.

    `content` takes in what is appended, so that it is always what the file holds.
    """

    def __init__(self, path: Path, handle: int, content: JournalContent) -> None:
        """Go on where the content ends, with a handle that `open_locked` returned."""
        self.path, self.content, self._handle = path, content, handle
        with storage_errors(path):
            os.ftruncate(handle, content.good_bytes)
            os.lseek(handle, 0, os.SEEK_END)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            os.fsync(self._handle)
        os.close(self._handle)

    def append(self, record: Record) -> None:
        """Append one line. Raises StorageError; a line that was torn by that is left out when the journal is read."""
        line = record.model_dump_json().encode() + b"\n"
        with storage_errors(self.path):
            while line:
                line = line[os.write(self._handle, line) :]
        self.content.add(record)

    def sync(self) -> None:
        """Make what was appended survive a power cut."""
        with storage_errors(self.path):
            os.fsync(self._handle)


@contextlib.contextmanager
def open_journal(path: Path, start: Start, fresh: bool) -> Iterator[JournalWriter]:
    """Continue a journal, or begin one; `fresh` sets one aside (NAME.old). One without a sample gives way.

    It is locked before it is read. Raises HeldError where another process writes it, JournalError for another run's.
    """
    handle = open_locked(path)
    try:
        if fresh and os.fstat(handle).st_size:
            with storage_errors(path):
                path.replace(free_name(path))
            aside, handle = handle, open_locked(path)
            os.close(aside)
        content = read_journal(path)
        if content is not None and not content.visits:
            content = None
        if content is not None:
            _refuse_differences(path, content.start.identity, start.identity, "asked for")
        writer = JournalWriter(path, handle, content or JournalContent(start))
    except BaseException:
        os.close(handle)
        raise
    with writer:
        if content is None:
            writer.append(start)
        yield writer


def free_name(path: Path) -> Path:
    """Return where a file is set aside: beside it, and never in the place of an earlier one."""
    names = (path.with_name(f"{path.name}.old{number or ''}") for number in itertools.count())
    return next(name for name in names if not name.exists())


def check_same_device(journal: JournalWriter, hello: Hello) -> None:
    """Raise JournalError where the agent runs on another device, or with another runtime, than the journal's."""
    runtime = journal.content.start.identity["runtime"]
    for session in journal.content.sessions[:1]:
        first = session.hello
        there = {"device": first.device_model, "processor": first.soc, "runtime version": first.runtimes.get(runtime)}
        here = {"device": hello.device_model, "processor": hello.soc, "runtime version": hello.runtimes.get(runtime)}
        if first.device_model is None:  # told by an earlier agent, which called the processor of most phones aarch64
            there["device"] = hello.device_model
            is_vague = first.soc in first.system.split() or _clocks(first) == _clocks(hello) != set()
            if hello.device_model is not None and is_vague:
                there["processor"] = hello.soc
        _refuse_differences(journal.path, there, here, "on this device")


def _clocks(hello: Hello) -> set[tuple[int | None, tuple[int, ...]]]:
    return {(cluster.max_khz, cluster.cores) for cluster in hello.clusters or ()}


def _refuse_differences(path: Path, theirs: dict[str, Any], ours: dict[str, Any], what: str) -> None:
    differences = [
        f"{name} {json.dumps(theirs.get(name))} there, {json.dumps(ours.get(name))} {what}"
        for name in ours | theirs
        if theirs.get(name) != ours.get(name)
    ]
    if differences:
        raise JournalError(
            f"{path} belongs to another run ({'; '.join(differences)}). "
            "Choose another output, or start over with --fresh"
        )
