"""Validate: networks that a table has not seen, measured between reference operators and held against its sums.

Of a table that is a grid also operators between its points, held against the interpolation.
"""

import itertools
import math
import random
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fbagents.profile import Profile
from fbbase.errors import FbError
from fblut.table import Lut
from fbprof.errors import MeasurementError
from fbprof.estimate.samples import Samples, usable_samples
from fbprof.estimate.table import latency_of
from fbprof.journal.journal import JournalContent
from fbprof.plan.grid import grid_operators
from fbprof.plan.networks_file import MeasuredNetwork, write_networks
from fbprof.plan.plan import RELOAD_VISITS, Plan, calibration_networks, from_light_to_heavy, zoo_choices
from fbprof.plan.subject import network
from fbprof.predict.conditions import plan_like, speed_now
from fbprof.predict.error import Candidate, Figures, OperatorResult, Result, additivity, figures_of
from fbspace.architecture import ZOO, load_architecture
from fbspace.draw import ENUMERABLE, draw_networks
from fbspace.opspec import OpSpec
from fbspace.space import Space

OPERATORS = 16
"""Operators that are timed between the networks and tell the device's speed now from its speed then."""
PREEMPTED_REMEDY = (
    "close other programs, or bind the agent to cores that nothing else uses (`cores` in the device's profile); a "
    "network so long that something always interrupts it is measured where less runs"
)
CALIBRATION_STREAM = 1000
"""So many networks of the stream that calibrates are never drawn, however many of them calibrated the table."""


@dataclass(frozen=True, slots=True)
class Validation:
    """Every network's result, and what they say of the table and of its device.

    `between` are the operators that the table has only interpolated and that were timed alone here.
    `speed_percent` says how much slower the reference operators are now than in the table, None where it has none.
    `failed` tells why networks could not be measured, `unmeasured` for how many the time did not suffice.
    `is_additive` is None where networks are too few or too noisy; `additivity` is the same in words, with what to do.
    """

    results: tuple[Result, ...]
    between: tuple[OperatorResult, ...]
    figures: Figures
    speed_percent: float | None
    references: int
    failed: dict[str, str]
    unmeasured: int
    is_additive: bool | None
    additivity: str


def draw_candidates(
    lut: Lut, space: Space, count: int, seed: int, exclude: Collection[tuple[str, ...]] = ()
) -> list[Candidate]:
    """Return random networks and the published ones of a space, none that calibrated the table and none of `exclude`.

    Two networks of the same operators in the same order count as one. Fewer come back where a small space has no more;
    a published one is left out if the table lacks its head. Raises FbError where none is left, LutError with all
    operators that the table lacks.
    """
    metadata = lut.metadata
    size = math.prod(len(decision.options) for decision in space.decisions)
    calibrating = CALIBRATION_STREAM if size > ENUMERABLE else metadata.calibration_networks
    taken = {network(space, choices).specs for choices in [*exclude, *zoo_choices(space)]}
    stream = f"validation/{seed}"
    if metadata.origin == "fitted":  # it does not say to which networks; those of an earlier validation are likely
        stream += f"/{metadata.calibration_networks}/{metadata.network_us}"
    else:
        taken |= {subject.specs for subject in calibration_networks(space, calibrating, metadata.seed or 0)}
    head = next((head for head, specs in space.heads.items() if not lut.missing(specs)), space.head_channels)
    candidates: list[Candidate] = []
    for choices in draw_networks(space, ENUMERABLE + count, stream):
        if len(candidates) == count:
            break
        specs = network(space, choices).specs
        if specs not in taken:
            taken.add(specs)
            name = f"random-{len(candidates) + 1:03d}"
            candidates.append(Candidate(name, choices, head, False, network(space, choices, head)))
    for name in ZOO.names():
        published = load_architecture(name)
        if published.space == space.name and published.choices not in exclude:
            zoo_head = published.head_channels or space.head_channels
            if not lut.missing(space.heads[zoo_head]):
                subject = network(space, published.choices, zoo_head)
                candidates.append(Candidate(name, published.choices, zoo_head, True, subject))
    if not candidates:
        raise FbError(
            f"space {space.name} has no network left to validate by: all that there are calibrated the table; "
            "calibrate by fewer (fbprof measure --calibrate), or take a larger space"
        )
    lut.require((spec for candidate in candidates for spec in candidate.subject.specs), "the networks to validate by")
    return candidates


def draw_between(lut: Lut, space: Space, count: int, seed: int) -> list[OpSpec]:
    """Return random operators of a space that a table interpolates; none where it is no grid."""
    if lut.metadata.grid_points is None:
        return []
    operators = [spec for spec in space.operators() if spec.key() not in lut.rows]
    random.Random(f"between/{seed}").shuffle(operators)
    known = (spec for spec in operators if (row := lut.row(spec)) is not None and row.isolated_us is not None)
    return list(itertools.islice(known, count))


def validation_plan(
    lut: Lut,
    space: Space,
    profile: Profile,
    candidates: Sequence[Candidate],
    rounds: int,
    max_time_min: float,
    seed: int,
    between: Sequence[OpSpec] = (),
) -> Plan:
    """Return the plan that measures networks under the table's own conditions, operators in between.

    These are some that the table knows, which tell the device's speed, and those that it interpolates. Every model
    is loaded twice or more, so that measuring twice is loading twice. Raises as `plan_like` does.
    """
    return plan_like(
        lut.metadata,
        profile,
        operators=(*from_light_to_heavy(_known_operators(lut, space), OPERATORS), *between),
        networks=tuple(candidate.subject for candidate in candidates),
        rounds=rounds,
        max_time_min=max_time_min,
        seed=seed,
        reload_visits=min(RELOAD_VISITS, max(rounds // 2, 1)),
    )


def evaluate(
    content: JournalContent, lut: Lut, candidates: Sequence[Candidate], between: Sequence[OpSpec] = ()
) -> Validation:
    """Return what a journal's samples say of the table. Raises MeasurementError where no network was measured."""
    samples = usable_samples(content)
    measured = [c for c in candidates if c.subject.key in samples.visits_us]
    failed = {c.name: content.failed[c.subject.key] for c in candidates if c.subject.key in content.failed}
    if not measured:
        lost = sum(samples.preempted[c.subject.key] for c in candidates)
        why = (
            f"other work interrupted all {lost} samples: {PREEMPTED_REMEDY}"
            if lost
            else "the time was up; give it more"
        )
        reason = next(iter(failed.values()), why)
        raise MeasurementError(f"none of {len(candidates)} networks could be measured: {reason}")
    speed, operators = speed_now(samples, lut)
    results = [_result(c, samples.medians_by_load_us(c.subject.key), lut, speed or 1.0) for c in measured]
    figures = figures_of(results)
    is_additive, words = additivity(figures, len(results), lut)
    timed = [spec for spec in between if spec.key() in samples.visits_us]
    return Validation(
        results=tuple(results),
        between=tuple(_between(spec, samples, lut, speed or 1.0) for spec in timed),
        figures=figures,
        speed_percent=None if speed is None else 100 * (speed - 1),
        references=operators,
        failed=failed,
        unmeasured=len({c.name for c in candidates} - {c.name for c in measured} - set(failed)),
        is_additive=is_additive,
        additivity=words,
    )


def write_validation(path: Path, space: str, validation: Validation, metadata: Mapping[str, object]) -> None:
    """Write the networks as a file that fbprof fit reads. Raises StorageError.

    A fit takes networks of one head only, so published ones with another than the random networks' are left out.
    """
    head = validation.results[0].candidate.head_channels
    results = [r for r in validation.results if r.candidate.head_channels == head]
    columns: dict[str, Callable[[Result], float | None]] = {
        "ci_low_us": lambda r: r.ci_us and r.ci_us[0],
        "ci_high_us": lambda r: r.ci_us and r.ci_us[1],
        "predicted_us": lambda r: r.predicted.latency_us,
        "predicted_low_us": lambda r: r.predicted.ci_low_us,
        "predicted_high_us": lambda r: r.predicted.ci_high_us,
        "table_us": lambda r: r.table.latency_us,
        "error_percent": lambda r: r.error_percent,
    }
    networks = [MeasuredNetwork(r.candidate.choices, head, r.measured_us, r.candidate.name) for r in results]
    extra = {name: ["" if (value := of(r)) is None else value for r in results] for name, of in columns.items()}
    write_networks(path, space, networks, extra, metadata)


def _known_operators(lut: Lut, space: Space) -> list[OpSpec]:
    """Return the operators that the table has timed alone; where there are none, all whose cost it knows."""
    rows = {spec: lut.rows.get(spec.key()) for spec in grid_operators(space, lut.metadata.grid_points)}
    timed = [spec for spec, row in rows.items() if row is not None and row.isolated_us is not None]
    return timed or [spec for spec in rows if not lut.missing([spec])]


def _between(spec: OpSpec, samples: Samples, lut: Lut, speed: float) -> OperatorResult:
    row = lut.row(spec)
    assert row is not None  # draw_between returned it
    assert row.isolated_us is not None
    return OperatorResult(spec, row.isolated_us * speed, latency_of(samples.medians_by_load_us(spec.key()))[0])


def _result(candidate: Candidate, loads_us: Sequence[Sequence[float]], lut: Lut, speed: float) -> Result:
    table = lut.predict(candidate.subject.specs)
    parts = loads_us if len(loads_us) > 1 else [[us] for us in loads_us[0]]  # benchmark_model loads for every visit
    half = len(parts) // 2
    measured_us, ci_us = latency_of(loads_us)
    return Result(
        candidate=candidate,
        table=table,
        predicted=lut.predict(candidate.subject.specs, at_this_speed=True).slowed(speed),
        measured_us=measured_us,
        ci_us=ci_us,
        halves_us=(_median_us(parts[:half]), _median_us(parts[half:])) if half else None,
    )


def _median_us(loads_us: Sequence[Sequence[float]]) -> float:
    return latency_of([[us for load in loads_us for us in load]])[0]
