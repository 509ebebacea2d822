"""How well a table predicts whole networks it has never seen, by the number of networks that calibrated it.

usage: python benchmarks/lut_error.py [--quick] [--runtime NAME] [--precision int8] [--journals FOLDER]

Operators, 75 calibration networks and 100 other random networks of the 224 FBNet space (and its published ones) are
visited in one run; tables are estimated from it with 0, 10, 25, 50 and 75 of the calibration networks, and each
predicts the others. The noise floor is how far the first half of a network's visits is from the second.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
from _report import Figure, report

from fbagents.connect import load_profile
from fbexport.runtimes import RUNTIMES as ALL_RUNTIMES
from fblut.statistics import spearman
from fbprof.estimate.samples import Samples, usable_samples
from fbprof.estimate.table import estimate, latency_of, network_latencies_us
from fbprof.journal.journal import JournalContent
from fbprof.measure.run import collect
from fbprof.plan.plan import Plan, calibration_networks, zoo_choices
from fbprof.plan.subject import Subject, network
from fbprof.plan.timing import CALIBRATION_NETWORKS
from fbspace.architecture import ZOO, load_architecture
from fbspace.draw import draw_networks
from fbspace.space import Space, load_space

GOALS = {
    ("litert", "float32"): (1.3, 0.99),
    ("onnxruntime", "float32"): (2.0, 0.985),
    ("litert", "int8"): (2.0, 0.985),
    ("ncnn", "float32"): (2.0, 0.985),
}
"""Largest mean absolute error in percent and smallest rank correlation, of the default number of networks."""
RUNTIMES = ("litert", "onnxruntime")
"""Those measured where none is named."""
CALIBRATION = (0, 10, 25, CALIBRATION_NETWORKS, 75)


def unseen_networks(space: Space, count: int) -> list[Subject]:
    """Return random networks that are in no calibration, and the published ones."""
    calibration = calibration_networks(space, max(CALIBRATION), seed=0)
    taken = {tuple(key.key.partition(":")[2].split(",")) for key in calibration} | set(zoo_choices(space))
    drawn = [network(space, choices) for choices in draw_networks(space, count, "lut_error", taken)]
    zoo = [load_architecture(name) for name in ZOO.names()]
    return drawn + [network(space, a.choices, a.head_channels) for a in zoo if a.space == space.name]


def noise_floor_percent(samples: Samples, keys: list[str]) -> float:
    """Return the mean difference between both halves of the visits of each network."""
    differences = []
    for key in keys:
        medians = samples.medians_us(key)
        first, second = (latency_of([half])[0] for half in (medians[: len(medians) // 2], medians[len(medians) // 2 :]))
        differences.append(abs(first / second - 1))
    return float(100 * np.mean(differences))


def measure(
    space: Space, runtime: str, precision: str, networks: list[Subject], rounds: int, folder: Path
) -> JournalContent:
    """Measure the operators of a space and networks in one run, or go on with the one whose samples are in a folder."""
    plan = Plan(
        space=space.name,
        device="local",
        runtime=runtime,
        precision=precision,
        operators=tuple(space.operators()),
        networks=tuple(networks),
        rounds=rounds,
    )
    return collect(plan, load_profile("local"), folder / f"lut_error_{runtime}_{precision}.journal.jsonl")


def measure_errors(runtime: str, precision: str, quick: bool, folder: Path) -> list[Figure]:
    """Measure everything in one run and return the figures of one runtime."""
    space = load_space("fbnet")
    counts = CALIBRATION[:2] if quick else CALIBRATION
    calibration = calibration_networks(space, max(counts), seed=0)
    unseen = unseen_networks(space, 10 if quick else 100)
    content = measure(space, runtime, precision, [*calibration, *unseen], 6 if quick else 60, folder)
    samples = usable_samples(content)
    measured = network_latencies_us(samples)
    actual = np.array([measured[subject.key] for subject in unseen])
    figures = [Figure(f"{runtime}_noise_floor", noise_floor_percent(samples, [s.key for s in unseen]), "%")]
    for count in counts:
        lut = estimate(content, space, calibrate_by=[subject.key for subject in calibration[:count]])
        predictions = [lut.predict(subject.specs) for subject in unseen]
        predicted = np.array([prediction.latency_us for prediction in predictions])
        inside = [(p.ci_low_us or 0) <= us <= (p.ci_high_us or 0) for p, us in zip(predictions, actual, strict=True)]
        error = predicted / actual - 1
        is_default = count == CALIBRATION_NETWORKS
        mape, rho = GOALS.get((runtime, precision), (None, None)) if is_default else (None, None)
        name = f"{runtime}_{count}_networks" if count else f"{runtime}_uncalibrated"
        figures += [
            Figure(f"{name}_mape", float(100 * np.mean(np.abs(error))), "%", goal=mape),
            Figure(f"{name}_spearman", spearman(list(predicted), list(actual)) or 0.0, "ρ", rho, "at_least"),
            Figure(f"{name}_bias", float(100 * np.mean(error)), "%"),
            Figure(f"{name}_interval_coverage", float(100 * np.mean(inside)), "%"),
        ]
    return figures


def parser_of(description: str) -> argparse.ArgumentParser:
    """Return a parser of what is measured where networks are held against a table."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few networks and rounds: whether it runs, not how well")
    parser.add_argument("--runtime", choices=ALL_RUNTIMES.names(), action="append", help="only this runtime")
    parser.add_argument("--precision", default="float32", help="float32 or int8")
    parser.add_argument("--journals", type=Path, help="keep the raw samples here, and continue from them")
    return parser


def main() -> None:
    options = parser_of(__doc__).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = [
            figure
            for runtime in options.runtime or RUNTIMES
            for figure in measure_errors(runtime, options.precision, options.quick, options.journals or Path(folder))
        ]
    report("lut_error", figures, quick=options.quick, precision=options.precision)


if __name__ == "__main__":
    main()
