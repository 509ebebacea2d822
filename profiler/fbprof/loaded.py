"""LoadedModels: which models are on the device, within its memory bound; their files are written ahead of need."""

import hashlib
from collections.abc import Collection, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Self

from fbagents.agent import AgentClient
from fbagents.protocol import Loaded
from fbagents.transports import Transport
from fbbase.files import write_bytes
from fbprof.formats import format_of, load_format
from fbprof.plan import Plan
from fbprof.subject import Subject, is_network_key

UNKNOWN_MEMORY_BYTES = 1 << 30
"""What may be loaded where the device does not tell how much memory it has."""
FREE_SHARE = 0.5
FILE_FACTOR = 2
"""A model takes at least its weights twice: as they are in the file, and as the runtime packs them."""


class ModelFiles:
    """The model files of a plan's subjects in a folder, written by a thread while the agent is at work."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        self._plan, self._folder = plan, folder
        self._format = format_of(plan.runtime)
        self._suffix = load_format(self._format).SUFFIX
        self._writer = ThreadPoolExecutor(max_workers=1)
        self._written: dict[str, Future[Path]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.shutdown(cancel_futures=True)

    def prepare(self, subjects: Iterable[Subject]) -> None:
        """Begin to write the files of subjects that will be needed, in this order."""
        for subject in subjects:
            if subject.key not in self._written:
                self._written[subject.key] = self._writer.submit(self._write, subject)

    def path(self, subject: Subject) -> Path:
        """Return a subject's file once it is written. Raises ExportError, StorageError."""
        self.prepare([subject])
        return self._written[subject.key].result()

    def release(self, subject: Subject) -> None:
        """Delete a network's file: large, and hardly ever needed again."""
        if is_network_key(subject.key):
            self._written.pop(subject.key).result().unlink()

    def _write(self, subject: Subject) -> Path:
        path = self._folder / f"{hashlib.sha256(subject.key.encode()).hexdigest()[:16]}{self._suffix}"
        write_bytes(path, subject.export(self._format, self._plan.precision, self._plan.seed))
        return path


class LoadedModels:
    """The models of one agent, at most `limit_bytes` of them at a time."""

    def __init__(self, agent: AgentClient, transport: Transport, plan: Plan, files: ModelFiles) -> None:
        self._agent, self._transport, self._plan, self._files = agent, transport, plan, files
        self._bytes: dict[str, int] = {}
        available = agent.state().memory_available_bytes
        free = UNKNOWN_MEMORY_BYTES if available is None else int(FREE_SHARE * available)
        self.limit_bytes = plan.memory_bytes or free
        self.keys: set[str] = set()

    def make_room(self, needed: Collection[str]) -> bool:
        """Unload what is not needed while the bound is reached; return whether there is room for one more."""
        for key in sorted(self.keys - set(needed)):
            if not self._is_full():
                return True
            self._agent.unload(key)
            self.keys.remove(key)
        return not self._is_full()

    def _is_full(self) -> bool:
        used = sum(self._bytes[key] for key in self.keys)
        return bool(self.keys) and used + max(self._bytes.values(), default=0) > self.limit_bytes

    def load(self, subject: Subject) -> Loaded:
        """Load a subject's model, anew if it is there. Raises ExportError, AgentReplyError; the agent may be lost."""
        path = self._files.path(subject)
        size = path.stat().st_size
        remote = self._transport.push(path)
        reply = self._agent.load(subject.key, remote, self._plan.runtime, subject.input_shape)
        self._bytes[subject.key] = max(reply.memory_bytes or 0, FILE_FACTOR * size, self._bytes.get(subject.key, 0))
        self.keys.add(subject.key)
        self._files.release(subject)
        return reply
