"""Plan: what is timed, how, and how well; everything that makes two runs the same run."""

import hashlib
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from fbagents.benchmark.binary import benchmark_of
from fbagents.profile import Profile
from fbexport.runtimes import RUNTIMES
from fblut.speed import LARGE, SMALL
from fbprof.plan.grid import grid_operators, most_points
from fbprof.plan.subject import ModelSubject, Setting, Subject, network, operator, reference
from fbprof.plan.timing import Timing
from fbspace.architecture import ZOO, load_architecture
from fbspace.draw import draw_networks
from fbspace.network import count_spec
from fbspace.opspec import OpSpec
from fbspace.space import Space

_T = TypeVar("_T")

MIN_ROUNDS = 80
"""Visits to everything before the first look at the intervals: fewer tell little of how the device changes."""
RELOAD_VISITS = 14
"""Visits after which a model is loaded anew: where it lies in memory makes it faster or slower."""
REFERENCES = tuple(map(reference, (*LARGE, *SMALL)))
"""The reference workload, which recurs throughout and tells the device's speed."""

ASSUMED_MACS_PER_S = 10e9
"""What `--dry-run` assumes of one core until the device has been measured: only for the time it announces."""
ASSUMED_MODEL_MACS = 300_000_000
"""Of a model file whose MACs cannot be counted."""
ASSUMED_OVERHEAD_S = 20e-6
ASSUMED_LOAD_S = 0.05
"""To write a model, load and warm it up: 20 ms for an operator on a CPU, more for a network."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan(Timing):
    """A measurement: visit every subject in random rounds, and run it `runs` times in a row at each visit.

    `models` are files, each with the setting it is run in; everything else is run as the plan says.
    Everything is visited MIN_ROUNDS times, then what is not yet known within ±`ci_percent` again, at most `rounds`
    times and for `max_time_s` seconds. A model is loaded anew after `reload_visits` visits, with None never.
    `memory_bytes` bounds what is loaded at once; None is half of what is free. `grid_points` says that the operators
    are a grid (`fbprof.plan.grid`). `agent` names a program of others that measures (`with_agent`), which takes
    `visit_min_s` seconds or more for a visit; None is an agent of ours.
    """

    space: str
    device: str
    operators: tuple[OpSpec, ...] = ()
    networks: tuple[Subject, ...] = ()
    models: tuple[ModelSubject, ...] = ()
    reload_visits: int | None = RELOAD_VISITS
    memory_bytes: int | None = None
    grid_points: int | None = None
    agent: str | None = None
    visit_min_s: float = 0.0

    def identity(self) -> dict[str, object]:
        """Return what a journal must agree with to be continued; more visits and networks may be asked for."""
        keys = "\n".join(spec.key() for spec in self.operators)
        always = ("space", "device", "runtime", "precision", "threads", "cores", "runs", "dropped", "before", "seed")
        identity = {name: getattr(self, name) for name in always}
        identity["operators_sha256"] = hashlib.sha256(keys.encode()).hexdigest()
        options = RUNTIMES.find(self.runtime).options.get(self.precision, {})
        told = " ".join(f"{name}={int(value)}" for name, value in options.items()) or None
        optional: dict[str, object] = {"grid_points": self.grid_points, "agent": self.agent, "runtime_options": told}
        if self.models:
            digests = "\n".join(sorted(each.digest for each in self.models))
            optional["models_sha256"] = hashlib.sha256(digests.encode()).hexdigest()
        return identity | {name: value for name, value in optional.items() if value is not None}

    @property
    def subjects(self) -> list[Subject]:
        """Everything that is timed: the operators, then the networks, then model files."""
        return [*map(operator, self.operators), *self.networks, *self.models]

    @property
    def setting(self) -> Setting:
        """How everything is run that has no setting of its own."""
        return Setting(self.runtime, self.threads, self.cores)

    @property
    def min_rounds(self) -> int:
        """Visits to everything before intervals are looked at."""
        return min(MIN_ROUNDS, self.rounds)

    @property
    def timing(self) -> str:
        """The timing context in words, as the table records it."""
        order = "random interleaved rounds" if self.before == "others" else "all visits of a block in a row"
        if self.agent is not None:
            return f"a process of benchmark_model for each visit, whose average inference is the one sample, {order}"
        return f"{self.runs} runs in a row, first {self.dropped} dropped, {order}"

    def expected_s(self) -> tuple[float, float]:
        """Return how long a run may take in seconds: if the first rounds do, and with all visits; a rough guess."""
        ends = []
        for rounds in (self.min_rounds, self.rounds):
            loads = len(self.subjects) * -(-rounds // (self.reload_visits or rounds))
            running_s = self.estimated_s() * (rounds + 1) / (self.min_rounds + 1)
            ends.append(min(running_s + loads * ASSUMED_LOAD_S, self.max_time_s))
        return ends[0], ends[1]

    def estimated_s(self) -> float:
        """Return a rough guess in seconds of how long models run in the first rounds, before a device is known."""
        timed = Counter(spec for subject in self.subjects for spec in subject.specs)
        once = sum(times * (count_spec(s).macs / ASSUMED_MACS_PER_S + ASSUMED_OVERHEAD_S) for s, times in timed.items())
        macs = [ASSUMED_MODEL_MACS if each.macs is None else each.macs for each in self.models]
        once += sum(count / ASSUMED_MACS_PER_S + ASSUMED_OVERHEAD_S for count in macs)
        return (self.min_rounds + 1) * (self.runs * once + self.visit_min_s * len(self.subjects))


def with_agent(plan: Plan, profile: Profile) -> Plan:
    """Return a plan as the agent of a profile carries it out.

    `benchmark_model` loads a model for every visit, and gives it one sample, the average. Raises ProfileError where its
    binary cannot be read.
    """
    program = benchmark_of(profile)
    if program is None:
        return plan
    return replace(plan, runs=1, dropped=0, reload_visits=None, agent=program.agent, visit_min_s=program.visit_min_s)


def from_light_to_heavy(operators: Sequence[OpSpec], count: int) -> list[OpSpec]:
    """Return so many of the operators, at equal distances in the order of their MACs."""
    by_size = sorted(operators, key=lambda spec: (count_spec(spec).macs, spec.key()))
    count = min(count, len(by_size))
    return [by_size[(2 * i + 1) * len(by_size) // (2 * count)] for i in range(count)]


def calibration_networks(space: Space, count: int, seed: int) -> tuple[Subject, ...]:
    """Return the random networks that calibrate, the same for one seed, none of the zoo; () where there is only one."""
    if all(len(decision.options) == 1 for decision in space.decisions):
        return ()
    drawn = draw_networks(space, count, f"calibration/{seed}", zoo_choices(space))
    return tuple(network(space, choices) for choices in drawn)


def with_operators(plan: Plan, space: Space, networks: int, points: int | None = None) -> Plan:
    """Return the plan with what is timed: all of a space, or the finest grid that fits its time, or one of `points`."""
    chosen = calibration_networks(space, networks, plan.seed)

    def gridded(count: int | None) -> Plan:
        return replace(plan, operators=tuple(grid_operators(space, count)), networks=chosen, grid_points=count)

    if points is None and space.is_masked:
        points = most_points(space, lambda count: gridded(count).estimated_s() <= plan.max_time_s)
    return gridded(points)


def zoo_choices(space: Space) -> list[tuple[str, ...]]:
    """Return the choices of the published networks of a space."""
    zoo = map(load_architecture, ZOO.names())
    return [published.choices for published in zoo if published.space == space.name]


def shuffled(items: Sequence[_T], seed: int, part: int) -> list[_T]:
    """Return the items in a random order that the seed and the number of the part decide."""
    order = list(items)
    random.Random(f"{seed}/{part}").shuffle(order)
    return order
