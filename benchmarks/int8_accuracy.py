"""What int8 costs in accuracy: CIFAR-10, two networks, quantised after training and fine-tuned, in the runtimes.

usage: python benchmarks/int8_accuracy.py [--quick] [--data FILE] [--out FOLDER]

A network of FBNet's blocks with ReLU (space fbnet-tiny) and one of FBNetV2's with squeeze-excite and hard-swish (space
fbnetv2-tiny) are trained from scratch in float32. Each is then written in int8 by every way of calibration, by 256
training images, and fine-tuned for three epochs (preset int8). All accuracies are of the test images, in LiteRT and in
ONNX Runtime as they compute int8. A loss is float32's accuracy before fine-tuning less int8's. Finished trainings are
kept in --out, and a run that was killed goes on there.
"""

import argparse
import dataclasses
import random
import sys
from pathlib import Path

from _report import Figure, has_images, report
from search_quality import DATA

from fbexport.quantization.calibration import METHODS
from fbsearch.images.data import Data
from fbsearch.jobs.train_job import train_network
from fbsearch.machine.compute import Compute
from fbsearch.machine.process import before_torch
from fbsearch.training.evaluate import evaluate
from fbsearch.training.quantized import calibrated, in_runtime, ranges_for
from fbsearch.training.recipe import make_recipe
from fbsearch.training.record import held_out
from fbspace.architecture import Architecture, choose, load_architecture
from fbspace.space import load_space
from fbspace.weights import load_network

RUNTIMES = ("litert", "onnxruntime")
BATCH = 50
SPACES = {"fbnet_tiny": "fbnet-tiny", "fbnetv2_tiny": "fbnetv2-tiny"}


def architecture(space_name: str) -> Architecture:
    """Return a network of a space that was drawn at random, without skips."""
    space, rng = load_space(space_name), random.Random(0)
    choices = []
    for decision in space.decisions:
        options = [o for o in decision.options if o != "skip"]
        if decision.what == "block" and "fbnetv2" in space_name:
            options = [o for o in options if o.endswith("hs")]
        choices.append(rng.choice(options) if decision.what in ("block", "expansion") else options[-1])
    return choose(space_name, choices, f"{space_name}-int8")


def accuracy(found: Architecture, weights: Path, data: Data, runtime: str | None, method: str | None) -> float:
    """Return the accuracy on the test images in percent, of torch in float32 or of a runtime in int8.

    Without a method the ranges that fine-tuning left are taken.
    """
    network = load_network(found, weights)
    if runtime is None:
        return evaluate(network, data, data.test, BATCH).top1_percent
    if method is None:
        ranges, _ = ranges_for(network, data, weights, None, 0, "", 0)
    else:
        ranges = calibrated(network, data, 256, method, 0).ranges
    model = in_runtime(network, data, runtime, "int8", ranges, BATCH, threads=2)
    return evaluate(model, data, data.test, BATCH).top1_percent


def measure(name: str, space_name: str, data_file: Path, out: Path, quick: bool) -> list[Figure]:
    """Return the figures of one network."""
    few = {"limit": 400, "steps": 5} if quick else {"limit": 10000}
    recipe = make_recipe("quick", epochs=2 if quick else 15, augment="crop-flip", **few)
    first, second = out / name, out / f"{name}-int8"
    train_network(architecture(space_name), str(data_file), recipe, first, Compute())
    fine = dataclasses.replace(make_recipe("int8", augment="crop-flip", **few), epochs=1 if quick else 3)
    found = load_architecture(str(first / "arch.json"))
    weights = first / "weights.pt"
    train_network(found, str(data_file), fine, second, Compute(), init=weights, precision="int8")
    data, _ = held_out(found, str(data_file), "test", 400 if quick else None)
    float_percent = accuracy(found, weights, data, None, None)
    fine_float = accuracy(found, second / "weights.pt", data, None, None)
    figures = [
        Figure(f"{name}_float32", float_percent, "%"),
        Figure(f"{name}_fine_tuned_float32", fine_float, "%"),
    ]
    for runtime in RUNTIMES:
        for method in METHODS:
            percent = accuracy(found, weights, data, runtime, method)
            goal = 1.0 if method == "mse" and not quick else None
            figures.append(Figure(f"{name}_{runtime}_{method}_loss", float_percent - percent, "points", goal))
        percent = accuracy(found, second / "weights.pt", data, runtime, None)
        goal = None if quick else 0.3
        figures.append(Figure(f"{name}_{runtime}_fine_tuned_loss", float_percent - percent, "points", goal))
        print(f"{name} in {runtime}: done", file=sys.stderr)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few images and steps; its figures mean nothing")
    parser.add_argument("--data", type=Path, default=DATA, help="CIFAR-10 as an .npz file")
    parser.add_argument("--out", type=Path, help="folder of trainings; runs/int8_accuracy unless given")
    options = parser.parse_args()
    before_torch()
    if not has_images("int8_accuracy", options.data):
        return
    out = options.out or Path("runs") / ("int8_accuracy" + ("-quick" if options.quick else ""))
    figures = []
    for name, space_name in SPACES.items():
        figures += measure(name, space_name, options.data, out, options.quick)
    report("int8_accuracy", figures, quick=options.quick, calibration_images=256)


if __name__ == "__main__":
    main()
