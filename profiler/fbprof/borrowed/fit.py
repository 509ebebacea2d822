"""Fit: a latency table from measured whole networks, for devices where single operators cannot be timed.

A network's latency is a constant and the sum of its operators, each operator one unknown however many layers have it.
Of the candidates that share a place only differences can be estimated: where skip is the identity the operators are
relative to nothing, elsewhere to one of them, the reference, whose time is part of the constant, as stem and head are.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fbbase import __version__
from fblut.table import LARGEST_PERCENT, NORMAL_95, SMALLEST_US, Lut, Metadata, Row
from fbprof.borrowed.regression import Floats, HeldOut, Regression, held_out, regress
from fbprof.errors import NetworksError
from fbprof.plan.networks_file import MeasuredNetwork
from fbspace.blocks import block_of, is_identity
from fbspace.opspec import OpSpec
from fbspace.space import Space

MIN_NETWORKS = 20
NETWORKS_PER_PARAMETER = 3
"""Fewer networks than this for every number to be estimated leave nothing to judge the estimate by."""


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
            "origin": "fitted",
            "timing": f"regression on {len(networks)} whole networks",
            "seed": seed,
            "tool_version": __version__,
            "drift_window_visits": 2 * result.drift.half_window,
            "drift_range_percent": round(result.drift.range_percent, 2),
            "network_us": round(float(result.cost[0]), 3),
            "calibration_networks": len(networks),
            "network_error_percent": round(min(evaluation.error_percent, LARGEST_PERCENT), 3),
        }
    )
    rows = {spec.key(): _row(spec, design, result) for spec in space.operators()}
    return Lut(described, rows), evaluation


def design_of(networks: Sequence[MeasuredNetwork], space: Space, preferred: frozenset[OpSpec] = frozenset()) -> Design:
    """Return networks as sums of operators. Raises NetworksError for networks with different heads.

    Where no candidate is the identity the reference is one of `preferred`, else the space's skip, else the candidate
    of the fewest multiply-accumulates; it has to occur.
    """
    space.refuse_masks("fbprof fit")
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
        if not any(is_identity(spec) for spec in places):
            reference = _reference(occurring, preferred)
            fixed.add(reference)
            references.update({spec: reference for spec in occurring if spec != reference})
    operators = tuple(spec for spec in space.operators() if spec in searched - fixed)
    counts = np.array([[1.0, *(float(counter[spec]) for spec in operators)] for counter in specs])
    return Design(operators, references, occurrences, counts, np.array([network.latency_us for network in networks]))


def _reference(candidates: Sequence[OpSpec], preferred: frozenset[OpSpec]) -> OpSpec:
    chosen = [spec for spec in candidates if spec in preferred]
    chosen += [spec for spec in candidates if block_of(spec).leaves_out]
    if chosen:
        return chosen[0]
    from fbspace.network import count_spec

    return min(candidates, key=lambda spec: count_spec(spec).macs)


def _require_enough(design: Design, space: Space) -> None:
    networks, parameters = design.counts.shape
    needed = max(MIN_NETWORKS, NETWORKS_PER_PARAMETER * parameters)
    if networks < needed:
        raise NetworksError(
            f"{networks} networks are too few: the fixed cost and {parameters - 1} operators are to be estimated from "
            f"them, which needs at least {needed}; measure more random networks"
        )
    strength, directions = np.linalg.eigh(design.counts.T @ design.counts)
    undecided = np.abs(directions[:, strength < 1e-9 * strength[-1]]).sum(1) > 1e-6
    alike = {spec for spec, unclear in zip(design.operators, undecided[1:], strict=True) if unclear}
    if alike:
        layers = [str(layer.index) for layer in space.layers if alike & set(layer.candidates.values())]
        raise NetworksError(
            f"in layers {', '.join(layers)} the networks always choose alike, so that what these cost cannot be "
            f"separated: {', '.join(sorted(spec.key() for spec in alike))}; measure networks with other choices there, "
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
