"""How well networks are predicted by a table of which a tenth of the rows is missing (fbprof predict).

usage: python benchmarks/predict.py [--quick] [--runtime NAME] [--precision int8] [--rounds N] [--journals FOLDER]

Operators, 50 calibration networks and 105 others of the 224 FBNet space, its published ones among them, are visited in
one run, as `lut_error.py` does, whose --journals serve as well. Of the table estimated from it a random tenth of the
rows is taken out, ten times anew, and each time the 105 are predicted. --quick is the space fbnet-tiny.
"""

import random
import tempfile
from pathlib import Path

import numpy as np
from _report import Figure, report
from lut_error import CALIBRATION, RUNTIMES, measure, parser_of, unseen_networks

from fblut.table import Lut
from fbprof.estimate.samples import usable_samples
from fbprof.estimate.table import estimate, network_latencies_us
from fbprof.plan.plan import calibration_networks
from fbprof.plan.subject import Subject
from fbprof.plan.timing import CALIBRATION_NETWORKS
from fbprof.predict.estimator import Estimator
from fbprof.predict.unmeasured import predict_operators
from fbspace.space import load_space

MISSING = 0.1
DRAWS = 10
MOST_MAPE_PERCENT = 3.0


def predicted_errors(lut: Lut, seed: int, unseen: list[Subject], actual_us: list[float]) -> dict[str, list[float]]:
    """Return errors in percent of networks, of those that lack rows, and of the missing rows, and who is inside."""
    keys = random.Random(f"predict/{seed}").sample(sorted(lut.rows), round(MISSING * len(lut.rows)))
    less = Lut(lut.metadata, {key: row for key, row in lut.rows.items() if key not in keys})
    estimator = Estimator(less)
    errors: dict[str, list[float]] = {"networks": [], "lacking": [], "rows": [], "inside": []}
    for subject, true_us in zip(unseen, actual_us, strict=True):
        result = predict_operators(subject.key, subject.specs, less, estimator)
        off = 100 * (result.total.latency_us / true_us - 1)
        low, high = result.total.interval or (true_us, true_us)
        errors["networks"].append(off)
        errors["lacking"] += [off] if result.operators("estimated") else []
        errors["inside"].append(100.0 * (low <= true_us <= high))
        for part in result.parts:
            if part.origin == "estimated":
                errors["rows"].append(100 * (part.each.latency_us / (lut.rows[part.name].latency_us or 0.0) - 1))
    return errors


def figures_of(runtime: str, precision: str, quick: bool, rounds: int, folder: Path) -> list[Figure]:
    """Measure, or read what was measured, and return the figures of one runtime."""
    space = load_space("fbnet-tiny" if quick else "fbnet")
    calibration = calibration_networks(space, 12 if quick else max(CALIBRATION), seed=0)
    unseen = unseen_networks(space, 10 if quick else 100)
    content = measure(space, runtime, precision, [*calibration, *unseen], 6 if quick else rounds, folder)
    lut = estimate(content, space, calibrate_by=[subject.key for subject in calibration[:CALIBRATION_NETWORKS]])
    measured = network_latencies_us(usable_samples(content))
    actual_us = [measured[subject.key] for subject in unseen]
    whole = [100 * (lut.predict_us(s.specs) / us - 1) for s, us in zip(unseen, actual_us, strict=True)]
    draws = [predicted_errors(lut, seed, unseen, actual_us) for seed in range(DRAWS)]
    mapes = [float(np.mean(np.abs(draw["networks"]))) for draw in draws]
    every = {name: np.concatenate([draw[name] for draw in draws]) for name in draws[0]}
    goal = None if quick else MOST_MAPE_PERCENT
    return [
        Figure(f"{runtime}_networks", len(unseen), "networks"),
        Figure(f"{runtime}_whole_table_mape", float(np.mean(np.abs(whole))), "%"),
        Figure(f"{runtime}_mape", float(np.mean(mapes)), "%", goal=goal),
        Figure(f"{runtime}_mape_of_the_worst_draw", max(mapes), "%", goal=goal),
        Figure(f"{runtime}_mape_of_networks_lacking_rows", float(np.mean(np.abs(every["lacking"]))), "%"),
        Figure(f"{runtime}_bias", float(np.mean(every["networks"])), "%"),
        Figure(f"{runtime}_interval_coverage", float(np.mean(every["inside"])), "%"),
        Figure(f"{runtime}_median_error_of_estimated_operators", float(np.median(np.abs(every["rows"]))), "%"),
    ]


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--rounds", type=int, default=60, help="visits to everything")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = [
            figure
            for runtime in options.runtime or RUNTIMES
            for figure in figures_of(
                runtime, options.precision, options.quick, options.rounds, options.journals or Path(folder)
            )
        ]
    report("predict", figures, quick=options.quick, precision=options.precision, rows_taken_out=MISSING, draws=DRAWS)


if __name__ == "__main__":
    main()
