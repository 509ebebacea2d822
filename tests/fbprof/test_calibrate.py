"""Calibration against networks whose context is known, and against numpy's own least squares."""

from collections import Counter

import numpy as np
import pytest
from numpy.typing import NDArray

from fbprof.estimate.calibrate import calibrate
from fbprof.plan.plan import calibration_networks
from fbspace.opspec import OpSpec
from fbspace.space import load_space

Floats = NDArray[np.float64]
SPACE = load_space("fbnet-tiny")
OPERATORS = SPACE.operators()
ISOLATED_US: Floats = np.random.default_rng(1).uniform(20, 400, len(OPERATORS))


def counts_of(networks: int, seed: int) -> Floats:
    """Return how often each of so many random networks has each operator."""
    counters = [Counter(network.specs) for network in calibration_networks(SPACE, networks, seed)]
    return np.array([[float(counter[spec]) for spec in OPERATORS] for counter in counters])


def latencies_us(counts: Floats, factor: Floats, network_us: float, noise: float, seed: int) -> Floats:
    exact: Floats = counts @ (ISOLATED_US * factor) + network_us
    return exact * np.exp(np.random.default_rng(seed).normal(0, noise, len(exact)))


def context(spec: OpSpec) -> float:
    """A device that is 10 % slower within networks, 20 % faster for large inputs, 15 % slower for 5x5 kernels."""
    return 1.1 * (0.8 if spec.height >= 16 else 1.0) * (1.15 if spec.kernel == 5 else 1.0)


CONTEXT: Floats = np.array([context(spec) for spec in OPERATORS])


def test_networks_that_were_not_seen_are_predicted_and_their_error_is_told_before() -> None:
    counts, unseen = counts_of(50, seed=1), counts_of(120, seed=2)
    calibration = calibrate(OPERATORS, ISOLATED_US, counts, latencies_us(counts, CONTEXT, 0, 0.003, 1))
    actual = latencies_us(unseen, CONTEXT, 0, 0.0, 2)
    predicted = unseen @ (ISOLATED_US * calibration.factor) + calibration.network_us
    before = np.abs(unseen @ ISOLATED_US / actual - 1).mean()
    error = np.sqrt(np.mean((predicted / actual - 1) ** 2))
    assert before > 0.05
    assert error < 0.01
    assert calibration.error_percent == pytest.approx(100 * np.hypot(error, 0.003), rel=0.4)


def test_factors_are_found_and_their_errors_cover_them() -> None:
    counts = counts_of(75, seed=1)
    calibration = calibrate(OPERATORS, ISOLATED_US, counts, latencies_us(counts, CONTEXT, 0, 0.003, 1))
    assert np.corrcoef(calibration.factor, CONTEXT)[0, 1] > 0.95
    weight = counts.sum(0) * ISOLATED_US
    heavy = weight > np.median(weight)  # operators that hardly matter to any network stay where they were
    assert np.median(np.abs(calibration.factor / CONTEXT - 1)[heavy]) < 0.03
    inside = np.abs(calibration.factor - CONTEXT) <= 1.96 * calibration.factor_error
    assert inside[heavy].mean() >= 0.85


def test_a_device_without_context_is_left_alone() -> None:
    counts = counts_of(50, seed=1)
    calibration = calibrate(OPERATORS, ISOLATED_US, counts, latencies_us(counts, np.ones(len(OPERATORS)), 0, 0.003, 1))
    assert np.abs(calibration.factor - 1).max() < 0.01
    assert calibration.error_percent < 0.5


def test_one_common_factor_is_least_squares() -> None:
    """With nothing but a common factor in the data, it is the one that numpy's least squares on ratios gives."""
    counts = counts_of(40, seed=3)
    measured = latencies_us(counts, np.full(len(OPERATORS), 1.25), 0, 0.002, 3)
    calibration = calibrate(OPERATORS, ISOLATED_US, counts, measured)
    ratio = counts @ ISOLATED_US / measured
    best = float(np.linalg.lstsq(ratio[:, None], np.ones(len(ratio)), rcond=None)[0][0])
    assert np.median(calibration.factor) == pytest.approx(best, rel=2e-3)


def test_what_every_network_costs_is_found() -> None:
    """20 % of the median network: far more than the operators' own factors could explain."""
    counts = counts_of(75, seed=4)
    network_us = float(0.2 * np.median(counts @ ISOLATED_US))
    measured = latencies_us(counts, np.ones(len(OPERATORS)), network_us, 0.002, 4)
    calibration = calibrate(OPERATORS, ISOLATED_US, counts, measured)
    unseen = counts_of(100, seed=5)
    predicted = unseen @ (ISOLATED_US * calibration.factor) + calibration.network_us
    assert np.abs(predicted / (unseen @ ISOLATED_US + network_us) - 1).mean() < 0.01


def test_the_same_networks_give_the_same_calibration() -> None:
    counts = counts_of(30, seed=1)
    measured = latencies_us(counts, CONTEXT, 0, 0.003, 1)
    first, second = (calibrate(OPERATORS, ISOLATED_US, counts, measured) for _ in range(2))
    assert (first.factor == second.factor).all()
    assert first.network_us == second.network_us


def test_too_few_or_impossible_networks_are_refused() -> None:
    counts = counts_of(40, seed=1)
    measured = latencies_us(counts, CONTEXT, 0, 0.003, 1)
    with pytest.raises(ValueError, match="too few"):
        calibrate(OPERATORS, ISOLATED_US, counts[:7], measured[:7])
    with pytest.raises(ValueError, match="contradict"):
        calibrate(OPERATORS, ISOLATED_US, counts, measured * 0.02)
