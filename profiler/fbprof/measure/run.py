"""Measure: visit every subject of a plan on its device in random rounds, and journal every sample."""

import contextlib
import datetime
import functools
import importlib
import math
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import click

from fbagents.agent.client import Planned
from fbagents.agent.protocol import Visit
from fbagents.connect import connect
from fbagents.errors import AgentLostError, AgentReplyError, AgentTimeoutError, ConnectionLostError, DeviceError
from fbagents.profile import Profile, with_agent_for
from fbagents.transport import Transport
from fbbase import __version__
from fbbase.errors import PartialError, StorageError
from fbbase.interrupt import Terminated, terminated_as_interrupted
from fbbase.progress import Advance, Waiting, progress
from fbexport.errors import ExportError
from fbexport.runtimes import RUNTIMES, native_libraries, remedy
from fbprof.errors import MeasurementError
from fbprof.estimate.table import half_widths_percent
from fbprof.journal.journal import (
    Failed,
    JournalContent,
    JournalWriter,
    ModelLoaded,
    Placed,
    Session,
    Start,
    StateRead,
    check_same_device,
    check_sessions,
    count_visits,
    open_journal,
)
from fbprof.journal.visits import Visited
from fbprof.measure.agents import Agents
from fbprof.measure.crashes import Crashes
from fbprof.measure.models import LoadedModels, ModelFiles
from fbprof.measure.schedule import STAY_ROUNDS, Schedule, fitting_first
from fbprof.plan.plan import REFERENCES, Plan

STEADY_PERCENT = 3.0
"""A model is warm once a visit is not faster than the one before by more."""
WARM_UP_VISITS = 10
PROCESSES_PER_BLOCK = 16
"""Visits of a program of others in one block: they take seconds each on a GPU."""
FILES_AHEAD = 10
"""Model files that are written before the agent asks for them; more would fill the disk with networks."""


MakeSchedule = Callable[[Plan, Sequence[str], JournalContent], Schedule]
"""Makes a run's schedule, of its plan, the keys of its references and its samples, which grow."""


def go_on() -> None:
    """No-op check between steps."""


def until_precise(plan: Plan, references: Sequence[str], content: JournalContent) -> Schedule:
    """Return a schedule that ends when everything is known as well as the plan asks."""
    return Schedule(plan, references, lambda: half_widths_percent(content))


def collect(
    plan: Plan,
    profile: Profile,
    journal: Path,
    fresh: bool = False,
    files: ModelFiles | None = None,
    check: Callable[[], None] = go_on,
    schedule: MakeSchedule = until_precise,
) -> JournalContent:
    """Carry out a plan, or what is left of it, and return every sample.

    Every sample is in the journal before anything is derived from it. `files` are those of several devices that measure
    the same; `check` is called between steps, and whatever it raises ends the run in order. `schedule` says what is
    visited until when: by default until every interval is narrow enough. Raises DeviceError where the device cannot be
    used, PartialError where the agent is lost again and again (the same call continues),
    JournalError.
    """
    if plan.operators or plan.networks:
        importlib.import_module("fbexport.export")  # where torch is not installed, nothing is begun
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    start = Start(identity=plan.identity(), timing=plan.timing, started_at=now, tool_version=__version__)
    with open_journal(journal, start, fresh) as writer:
        check_sessions(journal, writer.content)
        _Run(plan, profile, writer, check, schedule).carry_out(files)
        content = writer.content
    if not content.visits:
        reasons = "; ".join(sorted(set(content.failed.values()))[:3])
        what = "model" if plan.models else "operator"
        hint = next((each.hint for each in plan.models if each.key in content.failed), "")
        raise MeasurementError(
            f"no {what} could be measured: {reasons or 'the time is up; give more --max-time'}{hint}"
        )
    return content


@contextlib.contextmanager
def keeping(journal: Path) -> Iterator[None]:
    """Tell what is kept when measuring is stopped or fails; a disk that is full is a run to be continued."""
    try:
        with terminated_as_interrupted():
            yield
    except (KeyboardInterrupt, Terminated, DeviceError):
        visits = count_visits(journal)
        if visits:
            click.echo(f"{visits} visits are kept in {journal}; the same command continues", err=True)
        raise
    except StorageError as error:
        raise PartialError(f"{error}; what was measured is kept, and the same command continues") from error


class _Run:
    """What is left of a plan, and the agent that does it."""

    def __init__(
        self,
        plan: Plan,
        profile: Profile,
        writer: JournalWriter,
        check: Callable[[], None],
        schedule: MakeSchedule,
    ) -> None:
        self._plan, self._profile, self._writer, self._check = plan, profile, writer, check
        self._content = writer.content
        self._subjects = {subject.key: subject for subject in (*plan.subjects, *REFERENCES)}
        self._settings = {key: each.setting for key, each in self._subjects.items() if each.setting is not None}
        self._runtimes = dict.fromkeys((plan.runtime, *(each.runtime for each in self._settings.values())))
        self._schedule = schedule(plan, [subject.key for subject in REFERENCES], self._content)
        self._deadline = math.inf  # until an agent runs: to reach a device may take longer than to measure
        self._visit_s: dict[str, float] = {}
        self._blocks = len(self._content.states)
        self._since_load: Counter[str] = Counter()
        self._crashes = Crashes()
        self._why = ""
        self._waiting = Waiting(profile.name, "reaching it and starting the agent")

    def carry_out(self, shared: ModelFiles | None) -> None:
        """Start the agent, and again when it is lost, until nothing is left or the time is up."""
        if not self._wanted():
            return
        with contextlib.ExitStack() as stack:
            files = shared or stack.enter_context(ModelFiles(self._plan))
            files.prepare(self._subjects[key] for key in [*self._wanted()][:FILES_AHEAD])
            stack.enter_context(self._waiting)
            transport = connect(self._with_agent(), self._runtimes)
            stack.callback(transport.close)
            while not self._session(transport, files):
                pass

    def _with_agent(self) -> Profile:
        """Return the profile with an agent that can run all runtimes of the run."""
        return functools.reduce(with_agent_for, self._runtimes, self._profile)

    def _wanted(self) -> dict[str, int]:
        return self._schedule.wanted(self._content.counts, self._content.failed)

    def _is_late(self) -> bool:
        return time.monotonic() > self._deadline

    def _session(self, transport: Transport, files: ModelFiles) -> bool:
        """Run one agent; return whether all is done or the time is up, False where the agent was lost."""
        self._waiting("reaching it and starting the agent")
        try:
            with self._start(transport) as agent:
                for runtime in self._runtimes:
                    _check_runtime(agent, runtime, self._profile.name, transport.is_this_machine)
                self._begin_session(agent)
                self._deadline = min(self._deadline, time.monotonic() + self._plan.max_time_s)
                models = LoadedModels(agent, transport, self._plan, files)
                while self._wanted() and not self._is_late():
                    self._phase(agent, models, files)
        except (AgentLostError, AgentTimeoutError, AgentReplyError) as error:
            culprit = self._crashes.blame(error, self._content.counts)
            self._waiting.tell(f"the agent is lost ({error}); starting it again, what was measured is kept")
            if culprit is not None:
                self._writer.append(Failed(key=culprit, reason=f"the agent is lost when it runs: {error}"))
            return False
        return True

    def _begin_session(self, agent: Agents) -> None:
        """Write down which agent measures what follows. Raises JournalError where it is another device's."""
        check_same_device(self._writer, agent.hello)
        self._writer.append(Session(hello=agent.hello))

    def _start(self, transport: Transport) -> Agents:
        """Start the agents. Raises DeviceError, which tells of a runtime that the native agent cannot run."""
        try:
            return Agents(transport, self._plan.setting, self._settings)
        except AgentLostError as error:
            if isinstance(error, ConnectionLostError) or self._with_agent() == self._profile:
                raise
            runtime = next(each for each in self._runtimes if with_agent_for(self._profile, each) != self._profile)
            found = RUNTIMES.find(runtime)
            lighter = f"; the lighter way is --runtime {found.lighter}" if found.lighter else ""
            raise DeviceError(
                f"{runtime} is run by the Python agent, which cannot be started on {self._profile.name}: it needs "
                f"Python, numpy and {found.package} there. Without Python there run {', '.join(native_libraries())}"
                f"{lighter} ({error})"
            ) from None

    def _phase(self, agent: Agents, models: LoadedModels, files: ModelFiles) -> None:
        """Visit what is wanted until the intervals are to be looked at again."""
        counts, failed = self._content.counts, self._content.failed
        wanted = self._schedule.missing(counts, failed)
        done = sum(counts[key] for key in wanted)
        title = f"{self._profile.name}: measuring {len(wanted)} models{self._why}"
        self._why = " on, as their intervals ask for"
        with progress(title, done + sum(wanted.values()), done) as advance:
            while wanted and not self._is_late():
                if self._schedule.in_new_processes and any(self._visits_left(key) <= 0 for key in models.keys):
                    agent.restart()
                    models.forget()
                    self._begin_session(agent)
                new = self._load(models, files, wanted)
                self._warm_up(agent, [*new, *self._reload(models, files, wanted)])
                present = {key: left for key, left in wanted.items() if key in models.keys}
                if present:
                    order = self._schedule.block(present, self._visit_s, self._blocks, self._until_reload(present))
                    self._blocks_of(agent, [key for key in order if key in models.keys], present, advance)
                wanted = self._schedule.missing(counts, failed)

    def _load(self, models: LoadedModels, files: ModelFiles, wanted: Mapping[str, int]) -> list[str]:
        """Load what the next block visits, as far as there is room, and return what is new."""
        first, *others = fitting_first(wanted, self._content.counts, models.keys)
        references = [key for key in self._schedule.references if key not in self._content.failed]
        needed = dict.fromkeys([first, *references, *others])
        new: list[str] = []
        keep: set[str] = set()
        waiting = [key for key in needed if key not in models.keys]
        if not waiting:
            return new
        is_first = any(key not in self._since_load for key in waiting)  # what is loaded again and again is not told
        title = f"{self._profile.name}: exporting and loading models"
        with progress(title, len(waiting), shown=is_first) as advance:
            for key in needed:
                keep.add(key)
                if key in models.keys:
                    continue
                if not models.make_room(keep):
                    break
                files.prepare(self._subjects[ahead] for ahead in waiting[:FILES_AHEAD])
                waiting.remove(key)
                new += self._load_one(models, key)
                advance()
        return new

    def _reload(self, models: LoadedModels, files: ModelFiles, wanted: Mapping[str, int]) -> list[str]:
        """Load models anew that have been where they are for the plan's `reload_visits`, and return them."""
        every = (*wanted, *self._schedule.references)
        due = [key for key in every if self._visits_left(key) <= 0 and key in models.keys]
        new: list[str] = []
        for number, key in enumerate(due):
            files.prepare(self._subjects[ahead] for ahead in due[number : number + FILES_AHEAD])
            new += self._load_one(models, key)
        return new

    def _visits_left(self, key: str) -> int:
        """Return how many visits to a model are left until it is to be loaded anew."""
        return self._plan.reload_visits - self._since_load[key] if self._plan.reload_visits else STAY_ROUNDS

    def _until_reload(self, keys: Iterable[str]) -> int:
        """Return the rounds until the first of the models is to be loaded anew."""
        return max(min(map(self._visits_left, keys), default=STAY_ROUNDS), 1)

    def _load_one(self, models: LoadedModels, key: str) -> list[str]:
        """Load one model; return its key, or nothing where that fails, which is recorded."""
        self._check()
        self._crashes.suspect = key
        self._waiting("sending and loading a model")
        try:
            self._writer.append(ModelLoaded(key=key, loaded=models.load(self._subjects[key])))
            if key in models.fallbacks and key not in self._content.fallbacks:
                self._writer.append(Placed(key=key, fallbacks=models.fallbacks[key]))
        except ExportError as error:
            self._writer.append(Failed(key=key, reason=str(error)))
        except AgentReplyError as error:
            self._writer.append(Failed(key=key, reason=f"cannot be loaded: {error}"))
        else:
            self._since_load[key] = 0
        self._crashes.suspect = None
        return [] if key in self._content.failed else [key]

    def _warm_up(self, agent: Agents, keys: Sequence[str]) -> None:
        """Visit models until each is steady: a visit is not faster any more than the one before.

        Another program than ours warms up at every visit.
        """
        if self._plan.agent is not None:
            return
        waiting, last_us = list(keys), dict[str, float]()
        for _ in range(WARM_UP_VISITS):
            visits = self._visits(agent, waiting, warm_up=True)
            now_us = {key: statistics.median(visit.wall_ns) / 1e3 for key, visit in visits}
            waiting = [k for k in waiting if k not in last_us or now_us[k] < last_us[k] * (1 - STEADY_PERCENT / 100)]
            last_us |= now_us
            if not waiting:
                break

    def _blocks_of(self, agent: Agents, order: Sequence[str], wanted: Mapping[str, int], advance: Advance) -> None:
        """Carry out an order as one block, or, where every visit is a process, as many that end when the time is up."""
        if self._plan.agent is None:
            self._block(agent, order, wanted, advance)
            return
        for start in range(0, len(order), PROCESSES_PER_BLOCK):
            if not self._is_late():
                missing = self._schedule.missing(self._content.counts, self._content.failed)
                self._block(agent, order[start : start + PROCESSES_PER_BLOCK], missing, advance)

    def _block(self, agent: Agents, order: Sequence[str], wanted: Mapping[str, int], advance: Advance) -> None:
        """Carry out one schedule, with the device's state before and after it."""
        left = dict(wanted)
        self._writer.append(StateRead(state=agent.state()))
        for key, visit in self._visits(agent, order, warm_up=False):
            self._visit_s[key] = max(sum(visit.wall_ns) / 1e9, self._plan.visit_min_s)
            self._since_load[key] += 1
            if left.get(key, 0) > 0:
                left[key] -= 1
                advance()
        self._writer.append(StateRead(state=agent.state()))
        self._writer.sync()
        self._blocks += 1

    def _visits(self, agent: Agents, order: Sequence[str], warm_up: bool) -> Iterator[tuple[str, Visit]]:
        """Run a schedule and write down every sample as it comes."""
        if not order:
            return
        visits = agent.run([Planned(key, self._plan.runs) for key in order])
        for key in order:
            self._check()
            self._crashes.suspect = key
            self._waiting("waiting for the agent's answer")
            visit = next(visits)
            self._writer.append(Visited(key=key, warm_up=warm_up, visit=visit))
            yield key, visit
        self._crashes.suspect = None
        next(visits, None)  # the agent's closing line, without which the schedule would not count


def _check_runtime(agent: Agents, runtime: str, device: str, is_here: bool) -> None:
    """Raise DeviceError where the device lacks the runtime."""
    if runtime not in agent.hello.runtimes:
        has, package = ", ".join(agent.hello.runtimes) or "none", RUNTIMES.find(runtime).package
        how = remedy(package) if is_here else f"pip install {package}, there"
        raise DeviceError(f"runtime {runtime} is not installed on {device}; there is: {has}. To have it: {how}")
