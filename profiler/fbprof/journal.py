"""Journal: raw samples, appended as they arrive; tables are derived from it and can be derived again."""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import pydantic

from fbagents.protocol import Hello, Loaded, Visit
from fbbase.files import storage_errors
from fbprof.errors import JournalError


class _Record(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")


class Start(_Record):
    """First line: which run this is."""

    record: Literal["start"] = "start"
    version: Literal[1] = 1
    identity: dict[str, Any]
    timing: str
    started_at: str
    tool_version: str


class Session(_Record):
    """An agent was started."""

    record: Literal["session"] = "session"
    hello: Hello


class ModelLoaded(_Record):
    """An operator's model is loaded."""

    record: Literal["loaded"] = "loaded"
    key: str
    loaded: Loaded


class OperatorVisit(_Record):
    """An operator was visited; `round` −1 is the warm-up of a session and is not counted."""

    record: Literal["visit"] = "visit"
    key: str
    round: int
    visit: Visit


class OperatorFailed(_Record):
    """An operator cannot be measured, and why."""

    record: Literal["failed"] = "failed"
    key: str
    reason: str


Record = Start | Session | ModelLoaded | OperatorVisit | OperatorFailed
_ADAPTER: pydantic.TypeAdapter[Record] = pydantic.TypeAdapter(Annotated[Record, pydantic.Field(discriminator="record")])


@dataclass(slots=True)
class JournalContent:
    """Everything a journal holds, by kind; `good_bytes` is where a torn last line begins, if there is one."""

    start: Start
    sessions: list[Session] = field(default_factory=list)
    visits: list[OperatorVisit] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    good_bytes: int = 0

    def counted(self) -> set[tuple[str, int]]:
        """Return (key, round) of every visit that counts."""
        return {(visit.key, visit.round) for visit in self.visits if visit.round >= 0}


def read_journal(path: Path) -> JournalContent | None:
    """Read a journal; None where there is none yet. A torn last line is left out.

    Raises JournalError with the line number where anything else is damaged.
    """
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise JournalError(f"cannot read journal {path}: {error.strerror}") from error
    whole, newline, _torn = raw.rpartition(b"\n")
    content: JournalContent | None = None
    for number, line in enumerate(whole.split(b"\n") if newline else [], start=1):
        try:
            record = _ADAPTER.validate_json(line)
        except pydantic.ValidationError as error:
            raise JournalError(f"{path}: line {number}: damaged: {error.errors()[0]['msg']}") from None
        content = _add(content, record, f"{path}: line {number}")
    if content is not None:
        content.good_bytes = len(whole) + 1
    return content


def _add(content: JournalContent | None, record: Record, where: str) -> JournalContent:
    if isinstance(record, Start) != (content is None):
        raise JournalError(f"{where}: a journal begins with its one start record")
    if isinstance(record, Start):
        return JournalContent(record)
    assert content is not None
    if isinstance(record, Session):
        content.sessions.append(record)
    elif isinstance(record, OperatorVisit):
        content.visits.append(record)
    elif isinstance(record, OperatorFailed):
        content.failed[record.key] = record.reason
    return content


class JournalWriter:
    """Appends records to a journal that only this process writes; use as a context manager."""

    def __init__(self, path: Path, good_bytes: int) -> None:
        self._path = path
        with storage_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._handle = os.open(path, os.O_WRONLY | os.O_CREAT, 0o666)
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._handle)
            raise JournalError(f"another fbprof is writing {path}; wait for it, or choose another output") from None
        with storage_errors(path):
            os.ftruncate(self._handle, good_bytes)
            os.lseek(self._handle, 0, os.SEEK_END)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            os.fsync(self._handle)
        os.close(self._handle)

    def append(self, record: Record) -> None:
        """Append one line. Raises StorageError; a line that was torn by that is left out when the journal is read."""
        line = record.model_dump_json().encode() + b"\n"
        with storage_errors(self._path):
            while line:
                line = line[os.write(self._handle, line) :]

    def sync(self) -> None:
        """Make what was appended survive a power cut."""
        with storage_errors(self._path):
            os.fsync(self._handle)


@contextlib.contextmanager
def open_journal(path: Path, start: Start, fresh: bool) -> Iterator[tuple[JournalWriter, JournalContent]]:
    """Continue a journal, or begin one; `fresh` sets the one that is there aside (NAME.old).

    Raises JournalError where it belongs to another run.
    """
    if fresh and path.exists():
        with storage_errors(path):
            path.replace(path.with_name(path.name + ".old"))
    content = read_journal(path)
    if content is not None:
        _check_same_run(path, content.start.identity, start.identity)
    with JournalWriter(path, content.good_bytes if content else 0) as writer:
        if content is None:
            content = JournalContent(start)
            writer.append(start)
        yield writer, content


def _check_same_run(path: Path, theirs: dict[str, Any], ours: dict[str, Any]) -> None:
    differences = [
        f"{name} {json.dumps(theirs.get(name))} there, {json.dumps(ours.get(name))} asked for"
        for name in ours
        if theirs.get(name) != ours.get(name)
    ]
    if differences:
        raise JournalError(
            f"{path} belongs to another run ({'; '.join(differences)}). "
            "Choose another output, or start over with --fresh"
        )
