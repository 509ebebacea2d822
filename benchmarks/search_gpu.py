"""How fast the search is on an NVIDIA GPU, and how long the paper's 90 epochs on CIFAR-10 would take.

usage: python benchmarks/search_gpu.py [--quick] [--amp bf16] [--device cpu]

The space fbnet-cifar, images of 32x32 with their crops and flips made on the device, batch 192, single-path and
mixture. Steps are timed between two waits for the device; of three rounds the median counts. The search's time is that
of its steps of w and of θ, as many as CIFAR-10's 50,000 images make; choosing the network at the end comes on top.
`--device cpu` only shows that the program runs. Without a GPU it says so and measures nothing.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _report import Figure, report

from fblut.table import Lut, Metadata, Row
from fbsearch.costs import COSTS
from fbsearch.fbnet.objective import Objective
from fbsearch.fbnet.search import Search
from fbsearch.fbnet.settings import Settings
from fbsearch.fbnet.supernet import SuperNet
from fbsearch.images.data import Data, load_data
from fbsearch.images.split import Split
from fbsearch.losses import LOSSES
from fbsearch.machine.compute import AMP, Compute
from fbsearch.machine.process import before_torch
from fbsearch.machine.seeds import generator_of
from fbspace.network import count_spec
from fbspace.space import Space, load_space

CIFAR_IMAGES = 50_000
GOAL_MIN = 10.0
ROUNDS = 3
STRATEGIES = ("single-path", "mixture")


def make_data(space: Space, images: int, device: torch.device) -> Data:
    """Return noise of CIFAR-10's shape, held on the device as a real set of its size is."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (images, 32, 32, 3), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "noise.npz"
        np.savez(path, x_train=x, y_train=np.arange(images) % 10, x_test=x[:100], y_test=np.arange(100) % 10)
        return load_data(f"npz:{path}", space.input_shape, 0, device=device)


def open_search(strategy: str, space: Space, data: Data, batch: int, compute: Compute) -> Search:
    """Return a search under a table linear in multiply-accumulates."""
    rows = {spec.key(): Row(spec, 8 + 60e-6 * count_spec(spec).macs, samples=9) for spec in space.operators()}
    lut = Lut(
        Metadata(
            space=space.name, device="made-up", runtime="litert", runtime_version="1", precision="float32", threads=1
        ),
        rows,
    )
    settings = Settings(space=space.name, data="noise", strategy=strategy, batch=batch, augment="crop-flip")
    skips = space.skips
    objective = Objective("made-up", COSTS.load("lut").build(space, lut), None, LOSSES.load("paper"), skips, settings)
    return Search(SuperNet.of(space, len(data.classes), 0), [objective], space, data, settings, compute)


def measure(search: Search, steps: int) -> dict[str, float]:
    """Return the median seconds of a step of w and of θ, batches included, and the peak of memory in MB."""
    data, settings, device = search.data, search.settings, search.compute.device
    objective = search.objectives[0]
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)

    def theta_step(*arguments: Any) -> Any:
        return search.theta_step(objective, *arguments)

    seconds = {
        "w": _step_s(search, data.w, search.w_step, settings.augment, steps),
        "theta": _step_s(search, data.theta, theta_step, "none", steps),
    }
    return seconds | {"memory": torch.cuda.max_memory_allocated(device) / 1e6 if device.type == "cuda" else 0.0}


def _step_s(search: Search, split: Split, step: Callable[..., Any], augment: str, steps: int) -> float:
    data, settings, device = search.data, search.settings, search.compute.device
    rounds = []
    for turn in range(ROUNDS + 1):
        generator = generator_of(0, f"round {turn}")
        _wait(device)
        start, done = time.perf_counter(), 0
        while done < steps:
            for x, y in data.batches(split, settings.batch, generator, steps - done, augment=augment):
                step(x, y, settings.temperature, generator)
                done += 1
        _wait(device)
        rounds.append((time.perf_counter() - start) / steps)
    return statistics.median(rounds[1:])  # in the first round kernels are chosen and loaded


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def search_minutes(seconds: dict[str, float], settings: Settings) -> float:
    """Return the minutes that all steps of a search of CIFAR-10 take."""
    training = CIFAR_IMAGES * (1 - settings.validation_share)
    w_steps = settings.epochs * training * settings.w_share / settings.batch
    theta_epochs = settings.epochs - settings.warmup_epochs
    theta_steps = theta_epochs * training * (1 - settings.w_share) / settings.batch
    return (w_steps * seconds["w"] + theta_steps * seconds["theta"]) / 60


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few steps of few images, a small space")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1, or cpu to see that the program runs")
    parser.add_argument("--amp", default="bf16", choices=list(AMP))
    arguments = parser.parse_args()
    before_torch()
    if arguments.device != "cpu" and not torch.cuda.is_available():
        print("skipped: torch finds no GPU here", file=sys.stderr)
        report("search_gpu", [], missing="an NVIDIA GPU")
        return
    compute = Compute.choose(arguments.device, arguments.amp)
    on_gpu = compute.device.type == "cuda"
    space = load_space("fbnet-tiny" if arguments.quick else "fbnet-cifar")
    batch, images, steps = (16, 200, 2) if arguments.quick else (192, 10_000, 100)
    data = make_data(space, images, compute.device)
    figures = []
    for name in STRATEGIES:
        search = open_search(name, space, data, batch, compute)
        seconds = measure(search, steps)
        key = name.replace("-", "_")
        goal = GOAL_MIN if name == "single-path" and on_gpu and not arguments.quick else None
        figures += [
            Figure(f"{key}_w", 1000 * seconds["w"], "ms"),
            Figure(f"{key}_theta", 1000 * seconds["theta"], "ms"),
            Figure(f"{key}_w_images", batch / seconds["w"], "images/s"),
            Figure(f"{key}_memory", seconds["memory"], "MB"),
            Figure(f"{key}_90_epochs", search_minutes(seconds, search.settings), "min", goal),
        ]
    device = torch.cuda.get_device_name(compute.device) if on_gpu else "cpu"
    report("search_gpu", figures, quick=arguments.quick, device=device, amp=arguments.amp, batch=batch)


if __name__ == "__main__":
    main()
