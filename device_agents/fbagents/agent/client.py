"""AgentClient: one running agent, asked in Python and answered with parsed replies."""

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Self, TypeVar

from fbagents.agent import protocol
from fbagents.agent.channel import Channel, StartsAgents
from fbagents.agent.cores import check_claims
from fbagents.agent.pieces import Piece
from fbagents.agent.protocol import NOT_FINITE, Hello, Loaded, Reply, State, Visit, check_version, parse_reply
from fbagents.errors import AgentLostError, AgentReplyError, AgentTimeoutError, DeviceError

START_TIMEOUT_S = 60.0
LOAD_TIMEOUT_S = 120.0
VISIT_TIMEOUT_S = 120.0
END_TIMEOUT_S = 5.0
"""For lines that say nothing new: that a schedule is done, whose visits have all come, and goodbye."""

_R = TypeVar("_R", bound=Reply)


@dataclass(frozen=True, slots=True)
class Planned:
    """One visit of a schedule: run `model` so many times in a row."""

    model: str
    runs: int


@dataclass(frozen=True, slots=True)
class Input:
    """One input of a model; `element` is its type as numpy names it, such as float32. A `name` of None is any."""

    name: str | None
    shape: tuple[int, ...]
    element: str


class AgentClient:
    """A running agent. Use as a context manager; leaving it says goodbye and ends the process.

    It is bound to `cores`, a text that `check_cores` returned; the device resolves words such as `big`.
    """

    def __init__(self, transport: StartsAgents, threads: int = 1, cores: str | None = None) -> None:
        options = ["--threads", str(threads)]
        if cores is not None:
            options += ["--cores", cores]
        self._channel: Channel = transport.start(options)
        self._number = 0
        self._done_timeout_s = END_TIMEOUT_S
        try:
            first = self._channel.receive(START_TIMEOUT_S)
            check_version(first)
            self.hello = self._parsed(parse_reply(first), Hello, None)
            check_claims(self.hello, threads, cores)
        except BaseException:
            self._channel.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                with contextlib.suppress(AgentTimeoutError, AgentLostError, AgentReplyError):
                    self._expect(protocol.Bye, self._ask("bye"), END_TIMEOUT_S)
        finally:
            self._channel.close()

    def write(self, path: str, sha256: str, pieces: Sequence[Piece], following: bytes) -> None:
        """Have a file written from pieces of files that are there and from bytes that follow the request.

        Raises AgentReplyError where it cannot be written, or gets another content than the hash's.
        """
        parts = [piece.length if piece.path is None else piece for piece in pieces]
        number = self._ask("write", following, path=path, sha256=sha256, pieces=parts, bytes=len(following))
        self._expect(protocol.Written, number, LOAD_TIMEOUT_S)

    def load(
        self,
        model: str,
        path: str,
        runtime: str,
        input_shape: Sequence[int],
        *,
        inputs: Sequence[Input] | None = None,
        inputs_path: str | None = None,
    ) -> Loaded:
        """Load a model file under a name.

        `input_shape` is N, C, H, W of its one float32 input. `inputs`, in the model's order, replace it, and a file
        that has others is refused; `inputs_path` is a file on the device with their values, one input after the other,
        little-endian. Raises AgentReplyError, and DeviceError where the agent is too old for inputs.
        """
        request: dict[str, object] = {
            "model": model,
            "path": path,
            "runtime": runtime,
            "input_shape": list(input_shape),
        }
        if inputs is not None:
            request["inputs"] = [asdict(one) for one in inputs]
        if inputs_path is not None:
            request["inputs_path"] = inputs_path
        if (inputs is not None or inputs_path is not None) and not self.hello.takes_inputs:
            raise DeviceError(
                f"the agent on the device ({self.hello.agent:.200}) is older than this host and knows nothing of a "
                "model's inputs: put this host's agent there; fbprof agent build makes it"
            )
        number = self._ask("load", b"", **request)
        loaded = self._expect(Loaded, number, LOAD_TIMEOUT_S)
        if not loaded.is_finite:
            self.unload(model)
            raise AgentReplyError(NOT_FINITE)
        return loaded

    def unload(self, model: str) -> None:
        """Forget a model. Raises AgentReplyError where it is not loaded."""
        self._expect(protocol.Unloaded, self._ask("unload", model=model), LOAD_TIMEOUT_S)

    def state(self) -> State:
        """Return the device's clocks, temperatures, affinity and free memory, as far as it tells them."""
        return self._expect(State, self._ask("state"), LOAD_TIMEOUT_S)

    def run(self, schedule: Sequence[Planned]) -> Iterator[Visit]:
        """Run a schedule and yield its visits as they come.

        Raises AgentReplyError, AgentTimeoutError or AgentLostError; visits that were yielded before are good.
        """
        number = self._ask("run", schedule=[asdict(visit) for visit in schedule])
        for index, planned in enumerate(schedule):
            visit = self._expect(Visit, number, VISIT_TIMEOUT_S)
            if (visit.index, visit.model, len(visit.wall_ns)) != (index, planned.model, planned.runs):
                raise AgentReplyError(f"the agent answered visit {index} ({planned.model}) with {visit!r:.200}")
            yield visit
        try:
            self._expect(protocol.Done, number, self._done_timeout_s)
        except AgentTimeoutError:
            self._done_timeout_s = 0.0  # one that is lost costs seconds, not one after every schedule

    def _ask(self, operation: str, following: bytes = b"", **arguments: object) -> int:
        self._number += 1
        request = {"id": self._number, "op": operation, **arguments}
        self._channel.send(json.dumps(request, separators=(",", ":")).encode(), following)
        return self._number

    def _expect(self, kind: type[_R], number: int | None, timeout_s: float) -> _R:
        while True:
            line = self._channel.receive(timeout_s)
            reply = parse_reply(line)
            if not isinstance(reply, protocol.Done) or kind is protocol.Done or reply.id == number:
                return self._parsed(reply, kind, number)

    def _parsed(self, reply: Reply, kind: type[_R], number: int | None) -> _R:
        if isinstance(reply, protocol.Error):
            raise AgentReplyError(reply.message)
        if not isinstance(reply, kind) or reply.id != number:
            raise AgentReplyError(f"expected {kind.__name__} to request {number}, the agent sent {reply!r:.200}")
        return reply
