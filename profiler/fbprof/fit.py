"""Fit: a latency table from measured whole networks, for devices where single operators cannot be timed.

A network's latency is a constant and the sum of its operators, each operator one unknown however many layers have it.
Of the candidates that share a place only differences can be told: where skip is the identity the operators are
relative to nothing, elsewhere to one of them, the reference, whose time is part of the constant, as stem and head are.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from fbbase import __version__
from fblut.compare import spearman
from fblut.table import NORMAL_95, Lut, Metadata, Row
from fbprof.drift import Drift, choose_half_window, estimate_additive, neighbour_median
from fbprof.errors import NetworksError
from fbprof.networks_file import MeasuredNetwork
from fbspace.opspec import OpSpec
from fbspace.space import Space

Floats = NDArray[np.float64]

MIN_NETWORKS = 20
NETWORKS_PER_PARAMETER = 3
"""Fewer networks than this for every number to be estimated leave nothing to judge the estimate by."""
HELD_OUT = 5
"""One network in so many is held out to be predicted."""
HUBER = 2.0
"""Residuals beyond so many scaled deviations lose weight, as in `estimate_additive`."""
SMALLEST_US = 0.001
"""The last decimal of a table; it knows no latency of 0."""


@dataclass(frozen=True, slots=True)
class Design:
    """Networks as sums: `counts` is networks × (1 + operators), a column of ones and how often each operator occurs.

    `references` maps an operator to the one it is relative to, where that is not nothing; references themselves, stem
    and head have no column. `occurrences` says how many of the networks have an operator at all.
    """

    operators: tuple[OpSpec, ...]
    references: dict[OpSpec, OpSpec]
    occurrences: Counter[OpSpec]
    counts: Floats
    latency_us: Floats


@dataclass(frozen=True, slots=True)
class Regression:
    """Cost of every part (the first is the constant) in the unit of the latencies, with its 95 % interval.

    `estimate` and `error` are the least squares estimate and its standard error. Where that interval reaches 0
    (`uncertain`), cost and interval are those of the normal distribution cut off at 0.
    """

    cost: Floats
    low: Floats
    high: Floats
    estimate: Floats
    error: Floats
    uncertain: frozenset[int]
    drift: Drift


@dataclass(frozen=True, slots=True)
class HeldOut:
    """How well networks are predicted that the fit has not seen, static and with the drift of their neighbours in time.

    `networks` is their number, MAPE the mean absolute error in percent, `error_percent` the root mean square error
    with drift; Spearman's ρ is None where all are equal.
    """

    networks: int
    mape_percent_static: float
    mape_percent_drift: float
    spearman_static: float | None
    spearman_drift: float | None
    error_percent: float


def fit(
    networks: Sequence[MeasuredNetwork], space: Space, metadata: Mapping[str, object], seed: int = 0
) -> tuple[Lut, HeldOut]:
    """Return the table of networks in measured order, and how well a table of four fifths predicts the last fifth.

    `metadata` says what the networks ran on: space, device, runtime, runtime_version, precision, threads. `seed` draws
    the held-out fifth; drift is taken out of the table where that makes the prediction better. Raises NetworksError
    where the networks are too few, too alike, or end in different heads.
    """
    design = design_of(networks, space)
    _require_enough(design, space)
    result = regress(design.counts, design.latency_us)
    faster = _faster_references(design, result)
    if faster:
        design = design_of(networks, space, faster)
        result = regress(design.counts, design.latency_us)
    evaluation = held_out(design.counts, design.latency_us, seed)
    if evaluation.mape_percent_drift >= evaluation.mape_percent_static:
        result = regress(design.counts, design.latency_us, half_window=0)
    described = Metadata.model_validate(
        {
            **metadata,
            "timing": f"regression on {len(networks)} whole networks",
            "seed": seed,
            "tool_version": __version__,
            "drift_window_visits": 2 * result.drift.half_window,
            "drift_range_percent": round(result.drift.range_percent, 2),
            "network_us": round(float(result.cost[0]), 3),
            "calibration_networks": len(networks),
            "network_error_percent": round(evaluation.error_percent, 3),
        }
    )
    rows = {spec.key(): _row(spec, design, result) for spec in space.operators()}
    return Lut(described, rows), evaluation


def design_of(networks: Sequence[MeasuredNetwork], space: Space, preferred: frozenset[OpSpec] = frozenset()) -> Design:
    """Return networks as sums of operators. Raises NetworksError for networks with different heads.

    Where no candidate is the identity the reference is one of `preferred`, else the space's skip, else the candidate
    of the fewest multiply-accumulates; it has to occur.
    """
    for network in networks:
        if network.head_channels != networks[0].head_channels:
            raise NetworksError(
                f"{network.where}: a head of {network.head_channels} channels, but {networks[0].where} has one of "
                f"{networks[0].head_channels}: the head is part of the fixed cost, so fit one head at a time"
            )
    specs = [Counter(space.specs(network.choices, network.head_channels)) for network in networks]
    occurrences = Counter(spec for counter in specs for spec in counter)
    references: dict[OpSpec, OpSpec] = {}
    fixed = set[OpSpec]()
    searched = set[OpSpec]()
    for places in {tuple(layer.candidates.values()): None for layer in space.layers}:
        occurring = [spec for spec in dict.fromkeys(places) if occurrences[spec]]
        searched.update(occurring)
        if not any(spec.is_identity for spec in places):
            reference = _reference(occurring, preferred)
            fixed.add(reference)
            references.update({spec: reference for spec in occurring if spec != reference})
    operators = tuple(spec for spec in space.operators() if spec in searched - fixed)
    counts = np.array([[1.0, *(float(counter[spec]) for spec in operators)] for counter in specs])
    return Design(operators, references, occurrences, counts, np.array([network.latency_us for network in networks]))


def _reference(candidates: Sequence[OpSpec], preferred: frozenset[OpSpec]) -> OpSpec:
    chosen = [spec for spec in candidates if spec in preferred] or [spec for spec in candidates if spec.kind == "skip"]
    if chosen:
        return chosen[0]
    from fbspace.network import count_spec

    return min(candidates, key=lambda spec: count_spec(spec).macs)


def regress(counts: Floats, latency: Floats, half_window: int | None = None) -> Regression:
    """Return the cost of every part of networks in measured order.

    `counts` is networks × parts, the first part a constant; `half_window` as in `estimate_additive`, sought unless
    given. The covariance is that of Huber's estimator, K²·(Σψ²/(n − p))/m²·(XᵀX)⁻¹ with ψ the bounded residuals, m the
    share that is not bounded, and K = 1 + p/n·(1 − m)/m (Huber, Robust Statistics, section 7.6).
    """
    unit = float(np.median(latency))
    relative = latency / unit
    times = np.arange(len(latency), dtype=np.float64)
    if half_window is None:
        half_window = choose_half_window(counts, relative, times)
    cost, factor = estimate_additive(counts, relative, times, half_window)
    level = float(np.mean(factor))  # the table is at the run's mean speed
    cost, factor = cost * np.exp(level), factor - level
    residual = _log_ratio(relative, counts @ cost) - factor
    limit = HUBER * 1.4826 * float(np.median(np.abs(residual)))
    bounded = np.clip(residual, -limit, limit)
    n, p = counts.shape
    inside = float(np.mean(np.abs(residual) <= limit))
    correction = (1 + p / n * (1 - inside) / inside) / inside
    variance = correction**2 * float(bounded @ bounded) / (n - p)
    scaled = counts * (np.exp(factor) / relative)[:, None]
    covariance = variance * np.linalg.pinv(scaled.T @ scaled, hermitian=True)
    return _positive(cost, covariance, unit, Drift(factor, half_window))


def _positive(estimate: Floats, covariance: Floats, unit: float, drift: Drift) -> Regression:
    """Return a regression without costs that are not positive.

    A cost whose 95 % interval reaches 0 becomes the mean of its distribution above 0. The others follow as the
    covariance says, so that sums stay as measured; those that reach 0 thereby join, until none does.
    """
    error = np.sqrt(np.maximum(np.diag(covariance), 1e-18))
    cost = estimate.copy()
    low, high = np.empty_like(cost), np.empty_like(cost)
    uncertain: list[int] = []
    while True:
        others = [i for i in range(len(cost)) if i not in uncertain]
        reach = [i for i in others if i > 0 and cost[i] - NORMAL_95 * error[i] <= 0]
        if not reach:
            break
        for i in reach:
            low[i], cost[i], high[i] = above_zero(cost[i], error[i])
        uncertain += reach
        others = [i for i in others if i not in reach]
        moved = np.linalg.pinv(covariance[np.ix_(uncertain, uncertain)], hermitian=True) @ (cost - estimate)[uncertain]
        cost[others] = estimate[others] + covariance[np.ix_(others, uncertain)] @ moved
    low[others], high[others] = cost[others] - NORMAL_95 * error[others], cost[others] + NORMAL_95 * error[others]
    return Regression(unit * cost, unit * low, unit * high, unit * estimate, unit * error, frozenset(uncertain), drift)


def above_zero(mean: float, deviation: float) -> tuple[float, float, float]:
    """Return the 2.5 % quantile, the mean and the 97.5 % quantile of a normal distribution cut off at 0."""
    normal = NormalDist()
    z = max(mean / deviation, -30.0)  # beyond, the normal distribution's tail is no number any more
    inside = math.erfc(-z / math.sqrt(2)) / 2  # the share above 0; normal.cdf is not exact in the tail
    low, high = (z - normal.inv_cdf(inside * above) for above in (0.975, 0.025))
    return deviation * low, deviation * (z + normal.pdf(z) / inside), deviation * high


def _log_ratio(measured: Floats, predicted: Floats) -> Floats:
    ratio: Floats = np.log(measured / np.maximum(predicted, 1e-3 * measured))
    return ratio


def held_out(counts: Floats, latency: Floats, seed: int) -> HeldOut:
    """Return how well a random fifth of networks in measured order is predicted by a regression on the others.

    With drift, a network's speed is that of its neighbours in time among the others. Networks with an operator that
    none of the others has are left out.
    """
    order = np.random.default_rng(seed).permutation(len(latency))
    split = len(latency) * (HELD_OUT - 1) // HELD_OUT
    train, test = np.sort(order[:split]), np.sort(order[split:])
    known = counts[train].any(0)
    test = test[~counts[test][:, ~known].any(1)]
    parts = counts[:, known]
    static = parts[test] @ regress(parts[train], latency[train], half_window=0).cost
    result = regress(parts[train], latency[train])
    drifted = parts[test] @ result.cost
    if result.drift.half_window:
        residual = _log_ratio(latency[train], parts[train] @ result.cost)
        moments = test.astype(np.float64), train.astype(np.float64)
        drifted = drifted * np.exp(neighbour_median(*moments, residual, result.drift.half_window))
    off_static, off_drift = 100 * (static / latency[test] - 1), 100 * (drifted / latency[test] - 1)
    return HeldOut(
        networks=len(test),
        mape_percent_static=float(np.mean(np.abs(off_static))),
        mape_percent_drift=float(np.mean(np.abs(off_drift))),
        spearman_static=spearman(list(static), list(latency[test])),
        spearman_drift=spearman(list(drifted), list(latency[test])),
        error_percent=float(np.sqrt(np.mean(off_drift**2))),
    )


def _require_enough(design: Design, space: Space) -> None:
    networks, parameters = design.counts.shape
    needed = max(MIN_NETWORKS, NETWORKS_PER_PARAMETER * parameters)
    if networks < needed:
        raise NetworksError(
            f"{networks} networks are too few: the fixed cost and {parameters - 1} operators are to be told from them, "
            f"which needs at least {needed}; measure more random networks"
        )
    strength, directions = np.linalg.eigh(design.counts.T @ design.counts)
    undecided = np.abs(directions[:, strength < 1e-9 * strength[-1]]).sum(1) > 1e-6
    alike = {spec for spec, unclear in zip(design.operators, undecided[1:], strict=True) if unclear}
    if alike:
        layers = [str(layer.index) for layer in space.layers if alike & set(layer.candidates.values())]
        raise NetworksError(
            f"in layers {', '.join(layers)} the networks always choose alike, so that what these cost cannot be told "
            f"apart: {', '.join(sorted(spec.key() for spec in alike))}; measure networks with other choices there, "
            "skip among them"
        )


def _faster_references(design: Design, result: Regression) -> frozenset[OpSpec]:
    """Return better references where an operator is faster than its own beyond doubt: the fastest of its place."""
    estimate = dict(zip(design.operators, result.estimate[1:], strict=True))
    error = dict(zip(design.operators, result.error[1:], strict=True))
    fastest: dict[OpSpec, OpSpec] = {}
    for spec, reference in design.references.items():
        if estimate[spec] + NORMAL_95 * error[spec] < 0:
            fastest[reference] = min(fastest.get(reference, spec), spec, key=estimate.__getitem__)
    return frozenset(fastest.values())


def _row(spec: OpSpec, design: Design, result: Regression) -> Row:
    samples = design.occurrences[spec]
    if not samples:
        return Row(spec, None, status="failed", notes="none of the networks has this operator")
    if spec not in design.operators:
        return Row(spec, None, samples=samples, status="fixed", notes="part of every network's fixed cost")
    index = 1 + design.operators.index(spec)
    reference = design.references.get(spec)
    notes = [f"relative to {reference.key()}"] if reference else []
    if index in result.uncertain:
        highest = result.estimate[index] + NORMAL_95 * result.error[index]
        notes.append("cannot be told from 0 by these networks" if highest > 0 else "less than 0 by these networks")
    low, latency, high = (max(float(x[index]), SMALLEST_US) for x in (result.low, result.cost, result.high))
    return Row(spec, latency, low, high, samples=samples, notes="; ".join(notes))
