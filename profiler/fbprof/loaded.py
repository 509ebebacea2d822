"""LoadedModels: which models are on the device, within its memory bound; files are written when they are needed."""

import hashlib
from collections.abc import Collection
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

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


class LoadedModels:
    """The models of one agent, at most `limit_bytes` of them at a time."""

    def __init__(self, agent: AgentClient, transport: Transport, plan: Plan, folder: Path) -> None:
        self._agent, self._transport, self._plan, self._folder = agent, transport, plan, folder
        self._format = format_of(plan.runtime)
        self._suffix = load_format(self._format).SUFFIX
        self._exporter = ThreadPoolExecutor(max_workers=1)
        self._files: dict[str, Future[tuple[str, int]]] = {}
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

    def prepare(self, subject: Subject) -> None:
        """Begin to write a subject's model file, while the agent is at work."""
        if subject.key not in self._files:
            self._files[subject.key] = self._exporter.submit(self._export, subject)

    def _path(self, subject: Subject) -> Path:
        return self._folder / f"{hashlib.sha256(subject.key.encode()).hexdigest()[:16]}{self._suffix}"

    def _export(self, subject: Subject) -> tuple[str, int]:
        """Write a model file and push it; return the device's name of it and its size."""
        content = subject.export(self._format, self._plan.precision, self._plan.seed)
        path = self._path(subject)
        write_bytes(path, content)
        return self._transport.push(path), len(content)

    def load(self, subject: Subject) -> Loaded:
        """Load a subject's model, anew if it is there. Raises ExportError, AgentReplyError; the agent may be lost."""
        self.prepare(subject)
        remote, size = self._files[subject.key].result()
        reply = self._agent.load(subject.key, remote, self._plan.runtime, subject.input_shape)
        self._bytes[subject.key] = max(reply.memory_bytes or 0, FILE_FACTOR * size, self._bytes.get(subject.key, 0))
        self.keys.add(subject.key)
        if is_network_key(subject.key):  # large and hardly ever loaded again: the disk is not filled with them
            del self._files[subject.key]
            self._path(subject).unlink()
        return reply
