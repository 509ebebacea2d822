"""Measure: export every operator, keep them loaded in the agent, visit them in random rounds, journal every sample."""

import contextlib
import datetime
import tempfile
from collections import Counter
from pathlib import Path

from fbagents.agent import AgentClient, Planned
from fbagents.errors import AgentLostError, AgentReplyError, AgentTimeoutError, DeviceError
from fbagents.profile import Profile
from fbagents.transports import Transport, connect
from fbbase import __version__
from fbbase.errors import FbError, PartialError
from fbbase.files import write_bytes
from fbbase.progress import Advance, progress
from fblut.table import Lut
from fbprof.errors import ExportError, MeasurementError
from fbprof.estimate import estimate
from fbprof.export import export_spec
from fbprof.formats import format_of, load_format
from fbprof.journal import (
    JournalContent,
    JournalWriter,
    ModelLoaded,
    OperatorFailed,
    OperatorVisit,
    Session,
    Start,
    open_journal,
)
from fbprof.plan import Plan
from fbspace.opspec import OpSpec

WARMUP_ROUND = -1
CRASHES_PER_OPERATOR = 2
"""An operator during which the agent is lost so often is the cause; once may be chance."""
CRASHES_PER_RUN = 8


def journal_path(table: Path) -> Path:
    """Return where the raw samples of a table lie."""
    return table.with_suffix(".journal.jsonl")


def start_record(plan: Plan) -> Start:
    """Return the first line of a plan's journal."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return Start(identity=plan.identity(), timing=plan.timing, started_at=now, tool_version=__version__)


def measure(plan: Plan, profile: Profile, journal: Path, fresh: bool = False) -> Lut:
    """Carry out a plan, or what is left of it, and return the table.

    Every sample is in the journal before anything is derived from it. Raises DeviceError where the device cannot be
    used, PartialError where the agent is lost again and again (the same call continues), JournalError.
    """
    with open_journal(journal, start_record(plan), fresh) as (writer, content):
        run = _Run(plan, profile, writer, content)
        if run.pending_visits():
            run.carry_out()
    if not content.visits:
        reasons = "; ".join(sorted(set(content.failed.values()))[:3])
        raise MeasurementError(f"no operator could be measured: {reasons}")
    return estimate(content, plan.operators)


class _Run:
    """What is left of a plan, and the agent that does it."""

    def __init__(self, plan: Plan, profile: Profile, writer: JournalWriter, content: JournalContent) -> None:
        self._plan, self._profile, self._writer, self._content = plan, profile, writer, content
        self._counted = content.counted()
        self._crashes: Counter[str] = Counter()
        self._suspect: OpSpec | None = None  # the operator that the agent works on: to blame if it is lost

    def pending(self, round_number: int) -> list[OpSpec]:
        """Return the operators that a round has still to visit, in the round's order."""
        return [spec for spec in self._plan.order(round_number) if self._is_pending(spec, round_number)]

    def _is_pending(self, spec: OpSpec, round_number: int) -> bool:
        key = spec.key()
        return key not in self._content.failed and (key, round_number) not in self._counted

    def pending_visits(self) -> int:
        """Return how many visits are left."""
        return sum(self._is_pending(s, r) for r in range(self._plan.rounds) for s in self._plan.operators)

    def carry_out(self) -> None:
        """Start the agent, and again when it is lost, until nothing is left."""
        total = self._plan.rounds * len(self._plan.operators)
        with contextlib.ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fbprof-")))
            models = self._export(folder)
            transport = connect(self._profile)
            stack.callback(transport.close)
            done = total - self.pending_visits()
            advance = stack.enter_context(progress(f"measuring on {self._profile.name}", total, done))
            while self.pending_visits():
                self._session(transport, models, advance)

    def _export(self, folder: Path) -> dict[str, Path]:
        """Write the model files of what is not done; an operator that cannot be written is recorded as failed."""
        format_name = format_of(self._plan.runtime)
        suffix = load_format(format_name).SUFFIX
        models = {}
        rounds = range(self._plan.rounds)
        pending = [spec for spec in self._plan.operators if any(self._is_pending(spec, r) for r in rounds)]
        with progress(f"exporting to {format_name}", len(pending)) as advance:
            for number, spec in enumerate(pending):
                try:
                    path = folder / f"{number:04d}{suffix}"
                    write_bytes(path, export_spec(spec, format_name, self._plan.precision, self._plan.seed))
                    models[spec.key()] = path
                except ExportError as error:
                    self._fail(spec, str(error))
                advance()
        return models

    def _session(self, transport: Transport, models: dict[str, Path], advance: Advance) -> None:
        """Run one agent until all is done, or until it is lost."""
        try:
            with AgentClient(transport, self._plan.threads, self._plan.cores) as agent:
                check_runtime(agent, self._plan.runtime, self._profile)
                session = Session(hello=agent.hello)
                self._writer.append(session)
                self._content.sessions.append(session)
                self._load(agent, transport, models)
                for round_number in (WARMUP_ROUND, *range(self._plan.rounds)):
                    self._round(agent, round_number, models, advance)
        except (AgentLostError, AgentTimeoutError, AgentReplyError) as error:
            self._blame(error)

    def _load(self, agent: AgentClient, transport: Transport, models: dict[str, Path]) -> None:
        for spec in self._plan.operators:
            key = spec.key()
            if key in self._content.failed or key not in models:
                continue
            self._suspect = spec
            try:
                reply = agent.load(key, transport.push(models[key]), self._plan.runtime, spec.input_shape)
                self._writer.append(ModelLoaded(key=key, loaded=reply))
            except AgentReplyError as error:
                self._fail(spec, f"cannot be loaded: {error}")
        self._suspect = None

    def _round(self, agent: AgentClient, round_number: int, models: dict[str, Path], advance: Advance) -> None:
        """Visit what is left of one round and write down every sample as it comes."""
        specs = [spec for spec in self.pending(round_number) if spec.key() in models]
        if not specs:
            return
        visits = agent.run([Planned(spec.key(), self._plan.runs) for spec in specs])
        for spec in specs:
            self._suspect = spec
            record = OperatorVisit(key=spec.key(), round=round_number, visit=next(visits))
            self._writer.append(record)
            self._content.visits.append(record)
            if round_number != WARMUP_ROUND:
                self._counted.add((spec.key(), round_number))
                advance(note=f"round {round_number + 1} of {self._plan.rounds}")
        self._suspect = None
        next(visits, None)  # the agent's closing line, without which the round would not count
        self._writer.sync()

    def _blame(self, error: FbError) -> None:
        """Decide what the loss of the agent means: a chance, an operator that cannot be measured, or the end."""
        if self._suspect is None:
            raise error
        key = self._suspect.key()
        self._crashes[key] += 1
        if self._crashes.total() >= CRASHES_PER_RUN:
            raise PartialError(
                f"the agent was lost {CRASHES_PER_RUN} times, the last time in {key}: {error}. "
                "All samples are in the journal; the same command continues"
            ) from error
        if self._crashes[key] >= CRASHES_PER_OPERATOR:
            self._fail(self._suspect, f"the agent is lost when it runs: {error}")
        self._suspect = None

    def _fail(self, spec: OpSpec, reason: str) -> None:
        self._writer.append(OperatorFailed(key=spec.key(), reason=reason))
        self._content.failed[spec.key()] = reason


def check_runtime(agent: AgentClient, runtime: str, profile: Profile) -> None:
    """Raise DeviceError where the device lacks the runtime."""
    if runtime not in agent.hello.runtimes:
        has = ", ".join(agent.hello.runtimes) or "none"
        raise DeviceError(f"runtime {runtime} is not installed on {profile.name}; there is: {has}")
