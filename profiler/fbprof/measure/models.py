"""LoadedModels: which models are on the device, within its memory bound; their files are written ahead of need."""

import contextlib
import hashlib
import sys
import threading
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Self

from fbagents.agent.pieces import Content
from fbagents.agent.protocol import Loaded
from fbagents.transport import Transport
from fbbase.files import storage_errors
from fbbase.locks import scratch_folder
from fbexport.errors import ExportError
from fbexport.formats import format_of, load_format
from fbexport.runtimes import fallbacks
from fbprof.measure.agents import Agents
from fbprof.plan.plan import Plan
from fbprof.plan.subject import REFERENCE_PRECISION, ModelSubject, Subject, is_network_key

UNKNOWN_MEMORY_BYTES = 1 << 30
"""What may be loaded where the device does not tell how much memory it has."""
FREE_SHARE = 0.5
KEPT_NETWORKS = 10
FILE_FACTOR = 2
"""A model takes at least its weights twice: as they are in the file, and as the runtime packs them."""
SWITCH_INTERVAL_S = 5e-4
"""How long the thread that writes model files may keep the others waiting: at Python's 5 ms, for every packet that is
sent to a device, sending models takes three times as long."""


class ModelFiles:
    """The model files of a plan's subjects in a folder of this run, written by a thread while agents are at work.

    Devices that measure the same share it, each from its own thread: a file is written once for all of them, and only
    ever by that one thread, because torch.fx changes torch while it traces. A network's file is large, and hardly
    needed again once it is loaded: KEPT_NETWORKS stay for those who come later.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._format = format_of(plan.runtime)
        self._suffix = load_format(self._format).suffix
        self._lock = threading.Lock()
        self._written: dict[str, Future[Content]] = {}
        self._in_use: Counter[str] = Counter()
        self._loaded_networks: dict[str, None] = {}  # the one loaded last is the last
        self.fallbacks: dict[str, tuple[str, ...]] = {}
        """Operators of each file that have no kernel of its precision, where that is not float32."""
        self.are_copied = False
        """Whether a device gets copies: the writer then finds out what `Content` tells, and no device waits for it."""

    def __enter__(self) -> Self:
        self._stack = contextlib.ExitStack()
        self._folder = self._stack.enter_context(scratch_folder())
        self._writer = ThreadPoolExecutor(max_workers=1)
        self._switch_interval_s = sys.getswitchinterval()
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.shutdown(cancel_futures=True)
        sys.setswitchinterval(self._switch_interval_s)
        self._stack.close()

    def prepare(self, subjects: Iterable[Subject]) -> None:
        """Begin to write the files of subjects that will be needed, in this order."""
        with self._lock:
            for subject in subjects:
                self._begin(subject)

    @contextlib.contextmanager
    def opened(self, subject: Subject) -> Iterator[Content]:
        """Wait for a subject's file, and keep it as long as it is used. Raises ExportError, StorageError."""
        with self._lock:
            written = self._begin(subject)
            self._in_use[subject.key] += 1
        try:
            yield written.result()
        finally:
            with self._lock:
                self._in_use[subject.key] -= 1
                if is_network_key(subject.key):
                    self._loaded_networks.pop(subject.key, None)
                    self._loaded_networks[subject.key] = None
                    self._delete_networks()

    def values(self, content: bytes) -> Content:
        """Return a file with the values of a model's inputs. Raises StorageError."""
        path = self._folder / f"{hashlib.sha256(content).hexdigest()[:16]}.values"
        with self._lock, storage_errors(path):
            if not path.exists():
                path.write_bytes(content)
        return Content(path)

    def _begin(self, subject: Subject) -> Future[Content]:
        if subject.key not in self._written:
            self._written[subject.key] = self._writer.submit(self._write, subject)
        return self._written[subject.key]

    def _delete_networks(self) -> None:
        """Delete networks that were loaded and are not in use, but for the latest."""
        idle = [key for key in self._loaded_networks if not self._in_use[key]]
        for key in idle[: len(idle) - KEPT_NETWORKS] if len(idle) > KEPT_NETWORKS else ():
            del self._loaded_networks[key]
            written = self._written.pop(key)
            if not written.exception():
                written.result().path.unlink()

    def _write(self, subject: Subject) -> Content:
        suffix = subject.suffix if isinstance(subject, ModelSubject) else self._suffix
        path = self._folder / f"{hashlib.sha256(subject.key.encode()).hexdigest()[:16]}{suffix}"
        model = subject.export(self._format, self._plan.precision, self._plan.seed)
        if subject.precision(self._plan.precision) != REFERENCE_PRECISION and not is_network_key(subject.key):
            self.fallbacks[subject.key] = self._fallbacks(model)
        with storage_errors(path):
            path.write_bytes(model)  # nobody reads it before it is whole, and it goes with this run
        content = Content(path)
        if self.are_copied:
            content.known  # noqa: B018 - kept
        return content

    def _fallbacks(self, model: bytes) -> tuple[str, ...]:
        try:
            return tuple(fallbacks(model, self._plan.runtime, self._plan.precision))
        except ExportError as error:  # a device may have a runtime that this host lacks
            return (f"kernels not looked at: {error}",)


class LoadedModels:
    """The models of one agent, at most `limit_bytes` of them at a time."""

    def __init__(self, agent: Agents, transport: Transport, plan: Plan, files: ModelFiles) -> None:
        self._agent, self._transport, self._plan, self._files = agent, transport, plan, files
        files.are_copied |= transport.copies
        self._bytes: dict[str, int] = {}
        available = agent.state().memory_available_bytes
        free = UNKNOWN_MEMORY_BYTES if available is None else int(FREE_SHARE * available)
        self.limit_bytes = plan.memory_bytes or free
        self.keys: set[str] = set()
        self.fallbacks = files.fallbacks

    def make_room(self, needed: Collection[str]) -> bool:
        """Unload what is not needed while the bound is reached; return whether there is room for one more."""
        for key in sorted(self.keys - set(needed)):
            if not self._is_full():
                return True
            self._agent.unload(key)
            self.keys.remove(key)
        return not self._is_full()

    def forget(self) -> None:
        """Take it that none is loaded any more: the agent was started anew."""
        self.keys.clear()

    def _is_full(self) -> bool:
        used = sum(self._bytes[key] for key in self.keys)
        return bool(self.keys) and used + max(self._bytes.values(), default=0) > self.limit_bytes

    def load(self, subject: Subject) -> Loaded:
        """Load a subject's model, anew if it is there. Raises ExportError, AgentReplyError; the agent may be lost."""
        with self._files.opened(subject) as content:
            size = content.path.stat().st_size
            remote = self._transport.send(content, self._agent.write)
            runtime = (subject.setting or self._plan.setting).runtime
            if isinstance(subject, ModelSubject):
                values = self._send_values(subject)
                reply = self._agent.load(
                    subject.key, remote, runtime, subject.input_shape, inputs=subject.inputs, inputs_path=values
                )
            else:
                reply = self._agent.load(subject.key, remote, runtime, subject.input_shape)
        self._bytes[subject.key] = max(reply.memory_bytes or 0, FILE_FACTOR * size, self._bytes.get(subject.key, 0))
        self.keys.add(subject.key)
        return reply

    def _send_values(self, subject: ModelSubject) -> str | None:
        """Send the values of a model's inputs; return their file there, None where it gets the agents' test input."""
        if subject.values is None:
            return None
        return self._transport.send(self._files.values(subject.values), self._agent.write)
