"""Verify: a table's prediction for a whole network against the measured network."""

from dataclasses import dataclass

from fbagents.profile import Profile
from fbbase.errors import PartialError
from fbbase.locks import scratch_folder
from fblut.table import Lut
from fbprof.errors import MeasurementError
from fbprof.measure.run import collect
from fbprof.plan.plan import RELOAD_VISITS
from fbprof.plan.subject import network
from fbprof.predict.conditions import plan_like
from fbprof.predict.error import Candidate, Result
from fbprof.predict.validate import evaluate
from fbspace.architecture import Architecture

LOADS = 6
"""The visits are spread over so many loads, at least (`fbprof.estimate.table.latency_of`)."""


@dataclass(frozen=True, slots=True)
class Verification:
    """One network, predicted and measured in so many visits on a processor (`soc`).

    `speed_percent` is how much slower its operators are now, timed between the network's own visits, than the table
    says they were alone; None for a table without operators timed alone.
    """

    result: Result
    speed_percent: float | None
    visits: int
    soc: str


def verify(architecture: Architecture, lut: Lut, profile: Profile, rounds: int, seed: int = 0) -> Verification:
    """Measure a network and its operators as a plan of one network, under the table's own conditions, and compare.

    The samples are not kept. Raises LutError where the table lacks one of the operators, DeviceError, MeasurementError,
    and as `plan_like` does.
    """
    space = architecture.load_space()
    head = architecture.head_channels or space.head_channels
    subject = network(space, architecture.choices, head)
    lut.require(subject.specs, f"network {architecture.name}")
    plan = plan_like(
        lut.metadata,
        profile,
        operators=tuple(dict.fromkeys(subject.specs)),
        networks=(subject,),
        rounds=rounds,
        seed=seed,
        reload_visits=min(RELOAD_VISITS, max(rounds // LOADS, 1)),
    )
    with scratch_folder() as folder:
        try:
            content = collect(plan, profile, folder / "verify.journal.jsonl")
        except PartialError as error:
            raise MeasurementError(f"network {architecture.name} cannot be measured: {error.__cause__}") from error
    found = evaluate(content, lut, [Candidate(architecture.name, architecture.choices, head, False, subject)])
    visits, soc = content.counts[subject.key], content.sessions[0].hello.soc
    return Verification(found.results[0], found.speed_percent, visits, soc)
