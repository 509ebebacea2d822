"""Validate: networks that a table has not seen, measured between reference operators and held against its sums."""

import math
import statistics
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fbagents.agent import parse_cores
from fbagents.profile import Profile
from fbbase.errors import FbError
from fblut.compare import spearman
from fblut.errors import LutError
from fblut.table import Lut, Prediction
from fbprof.errors import MeasurementError
from fbprof.estimate import median_interval, without_outliers
from fbprof.formats import check_precision, format_of
from fbprof.journal import JournalContent
from fbprof.networks_file import MeasuredNetwork, write_networks
from fbprof.plan import DEFAULT_DROPPED, DEFAULT_RUNS, Plan, calibration_networks, zoo_choices
from fbprof.samples import Samples, usable_samples
from fbprof.subject import Subject, network
from fbspace.architecture import ZOO, load_architecture
from fbspace.draw import ENUMERABLE, draw_networks
from fbspace.opspec import OpSpec
from fbspace.space import Space

DEFAULT_ROUNDS = 20
DEFAULT_NETWORKS = 100
REFERENCES = 16
"""Operators that are timed between the networks and tell the device's speed now from its speed then."""
CALIBRATION_STREAM = 1000
"""So many networks of the stream that calibrates are never drawn, however many of them calibrated the table."""

JUDGED_NETWORKS = 8
"""Fewer networks than this say nothing about a device."""
ADDITIVE_MAPE_PERCENT = 5.0
ADDITIVE_NOISE_FLOORS = 3.0
"""A mean error within so many noise floors may be the measurement's own."""
ADDITIVE_SPEARMAN = 0.9
SPREAD_PERCENT = 10.0
"""Networks must differ by more (standard deviation, in percent of the mean) for their order to say something."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A network to validate by: a random one, or a published one by its name."""

    name: str
    choices: tuple[str, ...]
    head_channels: int
    is_published: bool
    subject: Subject


@dataclass(frozen=True, slots=True)
class Result:
    """One network, predicted and measured, in microseconds.

    `table_us` is the table's sum, `predicted` that sum and its 95 % interval at the device's present speed.
    `measured_us` is the median of the visits, `ci_us` its 95 % interval (None below 6 visits), and `halves_us` the
    same for the first and the second half of the visits (None for a single one).
    """

    candidate: Candidate
    table_us: float
    predicted: Prediction
    measured_us: float
    ci_us: tuple[float, float] | None
    halves_us: tuple[float, float] | None

    @property
    def error_percent(self) -> float:
        """How far the prediction lies above the measurement."""
        return 100 * (self.predicted.latency_us / self.measured_us - 1)


@dataclass(frozen=True, slots=True)
class Figures:
    """What results amount to; errors are predictions at the present speed against measurements, in percent.

    MAPE is the mean absolute error, `bias_percent` the mean signed one, `unscaled_mape_percent` that of the table as it
    stands. `spearman` and `kendall` (τ-b) are None where not defined. Measuring the same networks twice, the halves of
    their visits, gives `noise_floor_percent`, the mean difference (an upper bound, since a half has half the visits),
    and `noise_spearman`; None for a single visit. `coverage_percent` of the networks were measured within their
    predicted 95 % interval, None without intervals. `spread_percent` is the standard deviation of the latencies.
    """

    mape_percent: float
    median_percent: float
    p95_percent: float
    bias_percent: float
    unscaled_mape_percent: float
    spearman: float | None
    kendall: float | None
    noise_floor_percent: float | None
    noise_spearman: float | None
    coverage_percent: float | None
    spread_percent: float


@dataclass(frozen=True, slots=True)
class Validation:
    """Every network's result, and what they say of the table and of its device.

    `speed_percent` says how much slower the reference operators are now than in the table, None where it has none.
    `failed` tells why networks could not be measured, `unmeasured` for how many the time did not suffice.
    `is_additive` is None where networks are too few or too noisy; `verdict` is the same in words, with what to do.
    """

    results: tuple[Result, ...]
    figures: Figures
    speed_percent: float | None
    references: int
    failed: dict[str, str]
    unmeasured: int
    is_additive: bool | None
    verdict: str


def draw_candidates(
    lut: Lut, space: Space, count: int, seed: int, exclude: Collection[tuple[str, ...]] = ()
) -> list[Candidate]:
    """Return random networks and the published ones of a space, none that calibrated the table and none of `exclude`.

    Two networks of the same operators in the same order count as one. Fewer come back where a small space has no more;
    a published one is left out if the table lacks its head. Raises FbError where none is left, LutError with all
    operators that the table lacks.
    """
    metadata = lut.metadata
    size = math.prod(len(layer.candidates) for layer in space.layers)
    calibrating = CALIBRATION_STREAM if size > ENUMERABLE else metadata.calibration_networks
    taken = {network(space, choices).specs for choices in [*exclude, *zoo_choices(space)]}
    stream = f"validation/{seed}"
    if is_fitted(lut):  # it does not say to which networks; those of an earlier validation are likely
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
        zoo_head = published.head_channels or space.head_channels
        if (
            published.space == space.name
            and published.choices not in exclude
            and not lut.missing(space.heads[zoo_head])
        ):
            subject = network(space, published.choices, zoo_head)
            candidates.append(Candidate(name, published.choices, zoo_head, True, subject))
    if not candidates:
        raise FbError(
            f"space {space.name} has no network left to validate by: all that there are calibrated the table; "
            "calibrate by fewer (fbprof measure --calibrate), or take a larger space"
        )
    lut.require((spec for candidate in candidates for spec in candidate.subject.specs), "the networks to validate by")
    return candidates


def validation_plan(
    lut: Lut, space: Space, profile: Profile, candidates: Sequence[Candidate], rounds: int, max_time_s: float, seed: int
) -> Plan:
    """Return the plan that measures networks under the table's own conditions, reference operators in between.

    Raises LutError, ExportError where the table is of a runtime or a precision that cannot be measured here.
    """
    metadata = lut.metadata
    if metadata.runtime == "unknown":
        raise LutError(
            'the table does not say which runtime it is of: name it in the header (# runtime: "litert"), '
            "or make the table again with fbprof fit --runtime"
        )
    format_of(metadata.runtime)
    check_precision(metadata.precision)
    return Plan(
        space=metadata.space,
        device=profile.name,
        runtime=metadata.runtime,
        precision=metadata.precision,
        threads=metadata.threads,
        cores=None if metadata.cores == "any" else parse_cores(metadata.cores),
        runs=metadata.runs or DEFAULT_RUNS,
        dropped=DEFAULT_DROPPED if metadata.dropped is None else metadata.dropped,
        seed=seed,
        operators=tuple(_references(lut, space)),
        networks=tuple(candidate.subject for candidate in candidates),
        rounds=rounds,
        max_time_s=max_time_s,
    )


def evaluate(content: JournalContent, lut: Lut, candidates: Sequence[Candidate]) -> Validation:
    """Return what a journal's samples say of the table. Raises MeasurementError where no network was measured."""
    samples = usable_samples(content)
    measured = [c for c in candidates if c.subject.key in samples.visits_us]
    failed = {c.name: content.failed[c.subject.key] for c in candidates if c.subject.key in content.failed}
    if not measured:
        reason = next(iter(failed.values()), "the time was up, or other work preempted every sample; give it more time")
        raise MeasurementError(f"none of {len(candidates)} networks could be measured: {reason}")
    speed, operators = _speed(samples, lut)
    results = [_result(c, samples.medians_us(c.subject.key), lut, speed or 1.0) for c in measured]
    figures = figures_of(results)
    is_additive, verdict = judge(figures, len(results), lut)
    return Validation(
        results=tuple(results),
        figures=figures,
        speed_percent=None if speed is None else 100 * (speed - 1),
        references=operators,
        failed=failed,
        unmeasured=len({c.name for c in candidates} - {c.name for c in measured} - set(failed)),
        is_additive=is_additive,
        verdict=verdict,
    )


def figures_of(results: Sequence[Result]) -> Figures:
    """Return the figures of one result or more."""
    error = np.array([r.error_percent for r in results])
    measured = [r.measured_us for r in results]
    predicted = [r.predicted.latency_us for r in results]
    halves = [r.halves_us for r in results if r.halves_us is not None]
    inside = [
        r.predicted.ci_low_us <= r.measured_us <= r.predicted.ci_high_us
        for r in results
        if r.predicted.ci_low_us is not None and r.predicted.ci_high_us is not None
    ]
    return Figures(
        mape_percent=float(np.mean(np.abs(error))),
        median_percent=float(np.median(np.abs(error))),
        p95_percent=float(np.percentile(np.abs(error), 95)),
        bias_percent=float(np.mean(error)),
        unscaled_mape_percent=float(np.mean([100 * abs(r.table_us / r.measured_us - 1) for r in results])),
        spearman=spearman(predicted, measured),
        kendall=kendall(predicted, measured),
        noise_floor_percent=float(np.mean([100 * abs(a / b - 1) for a, b in halves])) if halves else None,
        noise_spearman=spearman([a for a, _ in halves], [b for _, b in halves]),
        coverage_percent=100 * float(np.mean(inside)) if inside else None,
        spread_percent=100 * float(np.std(measured) / np.mean(measured)),
    )


def judge(figures: Figures, networks: int, lut: Lut) -> tuple[bool | None, str]:
    """Return whether sums of operators may be trusted on this device, None where it cannot be told, and it in words."""
    if networks < JUDGED_NETWORKS:
        return None, f"none: {networks} networks are too few to judge by, {JUDGED_NETWORKS} are needed"
    floor = figures.noise_floor_percent or 0.0
    is_off = figures.mape_percent > ADDITIVE_MAPE_PERCENT
    objections = []
    if is_off and figures.mape_percent > ADDITIVE_NOISE_FLOORS * floor:
        objections.append(f"the mean error is {figures.mape_percent:.1f} %, of measuring twice {floor:.1f} %")
    order_counts = figures.spread_percent > max(SPREAD_PERCENT, ADDITIVE_NOISE_FLOORS * floor)
    if order_counts and figures.spearman is not None and figures.spearman < ADDITIVE_SPEARMAN:
        objections.append(f"the rank correlation is {figures.spearman:.2f}")
    if is_off and not objections:
        return None, (
            f"none: the mean error is {figures.mape_percent:.1f} %, but the same networks measured twice differ by "
            f"{floor:.1f} %: close other programs, and measure more with --rounds"
        )
    if not objections:
        return True, f"additive: sums of operators miss unseen networks by {figures.mape_percent:.1f} % on average"
    is_calibrated = lut.metadata.calibration_networks > 0
    if is_fitted(lut):
        remedy = (
            "fit again to networks measured now, if the device's speed may have changed, or measure the networks "
            "themselves with fbprof verify"
        )
    elif is_calibrated:
        remedy = "use fbprof fit on measured networks, and see whether its held-out error is smaller"
    else:
        remedy = "the table is not calibrated: fbprof measure --calibrate 50, then validate again"
    return False, (
        f"not additive{', even after calibration' if is_calibrated else ''}: {' and '.join(objections)}. "
        f"The sum of operators must not be trusted on this device; {remedy}"
    )


def is_fitted(lut: Lut) -> bool:
    """Whether a table comes of whole networks alone (fbprof fit)."""
    return lut.metadata.calibration_networks > 0 and all(row.isolated_us is None for row in lut.rows.values())


def kendall(x: Sequence[float], y: Sequence[float]) -> float | None:
    """Return Kendall's τ-b, None below 3 pairs or without variation (Kendall, Biometrika 33, 1945)."""
    if len(x) < 3 or len(set(x)) == 1 or len(set(y)) == 1:
        return None
    order_x, order_y = (np.sign(np.subtract.outer(values, values)) for values in (np.array(x), np.array(y)))
    return float(np.sum(order_x * order_y) / math.sqrt(np.sum(order_x**2) * np.sum(order_y**2)))


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
        "table_us": lambda r: r.table_us,
        "error_percent": lambda r: r.error_percent,
    }
    networks = [MeasuredNetwork(r.candidate.choices, head, r.measured_us, r.candidate.name) for r in results]
    extra = {name: ["" if (value := of(r)) is None else value for r in results] for name, of in columns.items()}
    write_networks(path, space, networks, extra, metadata)


def _references(lut: Lut, space: Space) -> list[OpSpec]:
    """Return operators from light to heavy; those that the table has timed alone, if there are any."""
    from fbspace.network import count_spec

    rows = {spec: lut.rows.get(spec.key()) for spec in space.operators()}
    timed = [spec for spec, row in rows.items() if row is not None and row.isolated_us is not None]
    known = timed or [spec for spec in rows if not lut.missing([spec])]
    by_size = sorted(known, key=lambda spec: (count_spec(spec).macs, spec.key()))
    count = min(REFERENCES, len(by_size))
    return [by_size[(2 * i + 1) * len(by_size) // (2 * count)] for i in range(count)]


def _speed(samples: Samples, lut: Lut) -> tuple[float | None, int]:
    """Return the latency of operators now over that in the table, None where none was timed alone, and their number.

    The median by time spent: half of the operators' time is in those with a larger ratio. The lightest operators tell
    less of the speed than of the caches, and what ran before them is not what ran before them for the table.
    """
    ratios = sorted(
        (_median(samples.medians_us(key)) / row.isolated_us, row.isolated_us)
        for key, row in lut.rows.items()
        if row.isolated_us is not None and key in samples.visits_us
    )
    if not ratios:
        return None, 0
    below = np.cumsum([isolated_us for _, isolated_us in ratios])
    return ratios[int(np.searchsorted(below, below[-1] / 2))][0], len(ratios)


def _result(candidate: Candidate, medians_us: Sequence[float], lut: Lut, speed: float) -> Result:
    table = lut.predict(candidate.subject.specs)
    ends = (table.ci_low_us, table.ci_high_us)
    low, high = (None if end is None else end * speed for end in ends)
    half = len(medians_us) // 2
    halves = medians_us[:half], medians_us[half:]
    kept = without_outliers(medians_us)
    return Result(
        candidate=candidate,
        table_us=table.latency_us,
        predicted=Prediction(table.latency_us * speed, low, high),
        measured_us=statistics.median(kept),
        ci_us=median_interval(kept),
        halves_us=(_median(halves[0]), _median(halves[1])) if half else None,
    )


def _median(values: Sequence[float]) -> float:
    return statistics.median(without_outliers(values))
