"""Drift: found where it is, not found where it is not; against synthetic truth and public recordings."""

import csv
import importlib.util
import statistics
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fbprof.estimate.drift import choose_half_window, estimate_additive, estimate_operators, neighbour_median

RNG = np.random.default_rng


@given(
    st.lists(st.floats(-1, 1), min_size=2, max_size=40),
    st.integers(1, 8),
    st.data(),
)
def test_the_neighbour_median_is_that_of_the_neighbours_written_out(values, half_window, data) -> None:
    at = data.draw(st.integers(0, len(values) - 1))
    window = min(2 * half_window, len(values) - 1)
    others = [i for i in range(len(values)) if i != at]
    before = min(max(half_window, window - (len(values) - 1 - at)), at)
    expected = statistics.median(values[i] for i in others[at - before : at - before + window])
    times = np.arange(len(values), dtype=float)
    assert neighbour_median(np.array([float(at)]), times, np.array(values), half_window)[0] == pytest.approx(expected)


def test_a_sample_is_not_its_own_neighbour() -> None:
    times, values = np.arange(9.0), np.zeros(9)
    values[4] = 1.0
    assert neighbour_median(times, times, values, 1)[4] == 0
    assert neighbour_median(np.array([3.5]), times, values, 1)[0] == 0.5


def run_of(drift: np.ndarray, noise: float = 0.01) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = RNG(3)
    true = rng.normal(4, 1, 40)
    visited = np.concatenate([rng.permutation(40) for _ in range(len(drift) // 40)])
    return true, visited, true[visited] + drift + rng.normal(0, noise, len(drift))


def test_steps_are_followed_and_taken_out() -> None:
    drift = np.where(np.arange(2400) // 300 % 2 == 0, 0.0, 0.3)
    true, visited, sample = run_of(drift)
    level, found = estimate_operators(visited, sample)
    assert found.half_window > 0
    assert found.range_percent == pytest.approx(100 * (np.exp(0.3) - 1), rel=0.1)
    assert np.median(np.abs(found.log_factor - (drift - drift.mean()))) < 0.01
    assert np.abs(level - true - drift.mean()).max() < 0.01


def test_where_there_is_no_drift_none_is_taken_out() -> None:
    true, visited, sample = run_of(np.zeros(2400))
    level, found = estimate_operators(visited, sample)
    assert np.abs(found.log_factor).max() < 0.005
    assert np.abs(level - true).max() < 0.01


def networks(drift: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = RNG(5)
    parts = np.hstack([np.ones((len(drift), 1)), rng.integers(0, 2, (len(drift), 12)).astype(float)])
    cost = rng.uniform(1, 5, 13)
    return parts, cost, parts @ cost * np.exp(drift + rng.normal(0, 0.005, len(drift)))


def test_parts_of_networks_are_found_under_a_throttling_device() -> None:
    drift = 0.2 * ((np.linspace(0, 1, 1000) * 6) % 1)
    parts, cost, latency = networks(drift)
    times = np.arange(1000.0)
    half_window = choose_half_window(parts, latency, times)
    found, _ = estimate_additive(parts, latency, times, half_window)
    static, _ = estimate_additive(parts, latency, times, 0)
    scale = np.median(found / cost)
    assert np.abs(found / (scale * cost) - 1).max() < 0.02
    assert np.abs(static / (np.median(static / cost) * cost) - 1).max() > 0.02


def test_nothing_is_gained_from_shuffled_networks() -> None:
    parts, _, latency = networks(0.2 * ((np.linspace(0, 1, 1000) * 6) % 1))
    mixed = RNG(1).permutation(1000)
    times = np.arange(1000.0)
    static = estimate_additive(parts[mixed], latency[mixed], times, 0)[0]
    half_window = choose_half_window(parts[mixed], latency[mixed], times)
    drifted, factor = estimate_additive(parts[mixed], latency[mixed], times, half_window)

    def error(cost: np.ndarray, factor: np.ndarray) -> float:
        return float(np.mean(np.abs(np.log(latency[mixed] / (parts[mixed] @ cost)) - factor)))

    assert error(static, np.zeros(1000)) - error(drifted, factor) < 0.001


def test_a_recorded_phone_is_predicted_better_with_drift(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Samsung A50, the first 2,000 networks; benchmarks/drift.py reports all devices."""
    folder = Path(__file__).parents[2] / "benchmarks"
    monkeypatch.syspath_prepend(str(folder))
    spec = importlib.util.spec_from_file_location("drift_benchmark", folder / "drift.py")
    assert spec is not None
    assert spec.loader is not None
    benchmark = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "drift_benchmark", benchmark)
    spec.loader.exec_module(benchmark)
    path = shared / "data" / "devices" / "samsung_a50_networks.csv"
    with path.open() as file:
        assert next(csv.reader(file))[-1] == "latency_ms"
    parts, latency = benchmark.networks(path)
    error = benchmark.held_out_error(parts[:2000], latency[:2000], seed=0)
    assert error["drift_mape"] < 2.5
    assert error["static_mape"] > error["drift_mape"] + 0.5
    assert error["drift_spearman"] > 0.95
