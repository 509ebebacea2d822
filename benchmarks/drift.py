"""What correcting for drift is worth: on public data of three devices, and on synthetic runs with known drift.

usage: python benchmarks/drift.py [--quick] [--data FOLDER]

Public: whole networks of the FBNet space in measured order; a table fitted on four fifths predicts the last fifth,
with and without drift, and again with the order shuffled, where there is nothing to gain. Synthetic: how often the
operators' true latencies lie within their 95 % intervals.
"""

import argparse
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
from _report import Figure, report
from numpy.typing import NDArray

from fbprof.borrowed.fit import design_of
from fbprof.borrowed.regression import held_out
from fbprof.estimate.drift import estimate_operators
from fbprof.estimate.table import median_interval, without_outliers
from fbprof.plan.networks_file import read_networks
from fbspace.space import load_space

Floats = NDArray[np.float64]
DATA = Path(__file__).parents[2] / "shared" / "data" / "devices"
GOALS = {"samsung_a50": 1.8, "xeon_gold_6226": 1.1, "pixel2": 7.0}


def networks(path: Path) -> tuple[Floats, Floats]:
    """Return how often each network has each operator (the first column is the constant), and latencies in µs."""
    space = load_space("fbnet-cifar")
    design = design_of(read_networks(path, space), space)
    return design.counts, design.latency_us


def held_out_error(parts: Floats, latency: Floats, seed: int) -> dict[str, float]:
    """Return MAPE in percent and Spearman's ρ on a held-out fifth, static and with drift."""
    error = held_out(parts, latency, seed)
    return {
        "static_mape": error.mape_percent_static,
        "drift_mape": error.mape_percent_drift,
        "static_spearman": error.spearman_static or math.nan,
        "drift_spearman": error.spearman_drift or math.nan,
    }


DRIFTS: dict[str, Callable[[Floats, np.random.Generator], Floats]] = {
    "none": lambda t, _: np.zeros(len(t)),
    "steps": lambda t, _: 0.1 * (np.floor(t * 7) % 2),
    "ramp": lambda t, _: 0.15 * t,
    "sawtooth": lambda t, _: 0.2 * ((t * 9) % 1),
    "random_walk": lambda t, rng: np.cumsum(rng.normal(0, 0.002, len(t))),
}


def coverage(kind: str, repeats: int, operators: int = 60, rounds: int = 60) -> float:
    """Return how often the true latency lies in the interval: 1 % noise, 5 % of the samples disturbed by 30 %."""
    rng = np.random.default_rng(len(kind))
    covered = 0
    for _ in range(repeats):
        true = rng.normal(4, 1.2, operators)
        visited = np.concatenate([rng.permutation(operators) for _ in range(rounds)])
        drift = DRIFTS[kind](np.linspace(0, 1, len(visited)), rng)
        sample = true[visited] + drift + rng.normal(0, 0.01, len(visited))
        disturbed = rng.random(len(visited)) < 0.05
        sample[disturbed] += rng.exponential(0.3, disturbed.sum())
        corrected = sample - estimate_operators(visited, sample)[1].log_factor
        for operator in range(operators):
            interval = median_interval(without_outliers(list(corrected[visited == operator])))
            assert interval is not None
            covered += interval[0] <= true[operator] + drift.mean() <= interval[1]
    return float(100 * covered / (repeats * operators))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one device and few synthetic runs")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the devices' network tables")
    options = parser.parse_args()
    figures, missing = [], []
    for device in list(GOALS)[: 1 if options.quick else None]:
        path = options.data / f"{device}_networks.csv"
        if not path.exists():
            missing.append(str(path))
            continue
        parts, latency = networks(path)
        error = held_out_error(parts, latency, seed=0)
        mixed = np.random.default_rng(1).permutation(len(latency))
        shuffled = held_out_error(parts[mixed], latency[mixed], seed=0)
        figures += [
            Figure(f"{device}_static_mape", error["static_mape"], "%"),
            Figure(f"{device}_drift_mape", error["drift_mape"], "%", goal=GOALS[device]),
            Figure(f"{device}_static_spearman", error["static_spearman"], "ρ"),
            Figure(f"{device}_drift_spearman", error["drift_spearman"], "ρ"),
            Figure(f"{device}_shuffled_gain", shuffled["static_mape"] - shuffled["drift_mape"], "points", goal=0.1),
        ]
    for kind in DRIFTS:
        share = coverage(kind, repeats=3 if options.quick else 20)
        figures.append(Figure(f"{kind}_coverage_off_95", abs(share - 95), "points", goal=2))
    report("drift", figures, quick=options.quick, missing=missing)


if __name__ == "__main__":
    main()
