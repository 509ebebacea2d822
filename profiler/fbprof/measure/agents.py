"""Agents: those of one device, one for each number of threads and binding to cores, spoken to as if they were one."""

import contextlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

from fbagents.agent.client import AgentClient, Planned
from fbagents.agent.pieces import Piece
from fbagents.agent.protocol import Hello, Loaded, State, Visit
from fbagents.transport import Transport
from fbprof.plan.subject import Setting


class Agents:
    """The agents that a plan's settings need; a model is loaded by, and visited in, the one of its setting.

    An agent that waits for its turn takes nothing of the device but memory. A context manager, as an agent is.
    """

    def __init__(self, transport: Transport, own: Setting, settings: Mapping[str, Setting]) -> None:
        """Start them; `settings` are those of models that have not the plan's `own`. Raises as `AgentClient` does."""
        self._transport, self._settings, self._own = transport, settings, own
        self._agents: dict[tuple[int, str | None], AgentClient] = {}
        self._stack = contextlib.ExitStack()
        self.restart()

    def restart(self) -> None:
        """End those that run, and start them anew, without a model. Raises as `AgentClient` does."""
        self._stack.close()
        places = dict.fromkeys((each.threads, each.cores) for each in (self._own, *self._settings.values()))
        with contextlib.ExitStack() as stack:
            self._agents = {each: stack.enter_context(AgentClient(self._transport, *each)) for each in places}
            self._stack = stack.pop_all()
        self._first = self._agents[self._own.threads, self._own.cores]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: Any) -> None:
        self._stack.__exit__(*raised)

    @property
    def hello(self) -> Hello:
        """What the agent of the plan's own setting says of itself and of the device."""
        return self._first.hello

    def hello_of(self, key: str) -> Hello:
        """Return what the agent says that runs a model."""
        return self._of(key).hello

    def write(self, path: str, sha256: str, pieces: Sequence[Piece], following: bytes) -> None:
        """Have a file written on the device, where all agents find it. Raises as `AgentClient.write` does."""
        self._first.write(path, sha256, pieces, following)

    def load(self, model: str, *arguments: Any, **named: Any) -> Loaded:
        """Load a model file where it is to run. Arguments and errors are those of `AgentClient.load`."""
        return self._of(model).load(model, *arguments, **named)

    def unload(self, model: str) -> None:
        """Forget a model. Raises AgentReplyError where it is not loaded."""
        self._of(model).unload(model)

    def state(self) -> State:
        """Return the device's clocks, temperatures and free memory, as far as it tells them."""
        return self._first.state()

    def run(self, schedule: Sequence[Planned]) -> Iterator[Visit]:
        """Run a schedule in its order, each visit by the agent of its model. Raises as `AgentClient.run` does."""
        for agent, visits in itertools.groupby(schedule, lambda planned: self._of(planned.model)):
            yield from agent.run([*visits])

    def _of(self, key: str) -> AgentClient:
        setting = self._settings.get(key, self._own)
        return self._agents[setting.threads, setting.cores]
