"""How good the networks are that a search finds: trained from scratch, beside random ones of the same latency.

usage: python benchmarks/search_quality.py [--preset gpu] [--quick] [--data FILE] [--lut TABLE.csv] [--out FOLDER]

CIFAR-10, the space fbnet-tiny, three seeds. Each seed searches with single-path and with mixture, for the same target,
and draws two random networks that take 97 to 100 % of it as well.
Every network is trained from scratch by one recipe and looks at the test images once. Latencies come from a table
linear in multiply-accumulates unless one is given; the target is half-way between the fastest and the slowest network.
Reported: test accuracies by seed, means and standard deviations over seeds (of random networks: over all), differences,
and the ratio of the searches' times. Finished parts are kept in --out, and a run that was killed goes on there.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from _report import Figure, has_images, report

from fbbase.files import write_text
from fblut.reading import read_lut
from fblut.table import Lut, Metadata, Row
from fbsearch.beyond.exact import reachable
from fbsearch.costs import COSTS, StepCost
from fbsearch.fbnet.derive import Networks, derive
from fbsearch.fbnet.objective import Objective
from fbsearch.fbnet.search import Search
from fbsearch.fbnet.settings import Settings
from fbsearch.fbnet.supernet import SuperNet
from fbsearch.images.data import Data, load_data
from fbsearch.losses import LOSSES
from fbsearch.machine.checkpoint import RunFolder
from fbsearch.machine.compute import Compute
from fbsearch.machine.process import before_search, before_torch
from fbsearch.machine.seeds import generator_of
from fbsearch.strategies import STRATEGIES
from fbsearch.training.evaluate import evaluate
from fbsearch.training.recipe import Recipe
from fbsearch.training.train import train
from fbspace.architecture import choose
from fbspace.network import count_spec
from fbspace.space import Space, load_space

DATA = Path(__file__).parents[2] / "shared" / "data" / "cifar10_jpegs.npz"
FOUND = ("single-path", "mixture")
RANDOM_PER_SEED = 2


@dataclass(frozen=True, slots=True)
class Schedule:
    """How a strategy searches: epochs, batch, rates."""

    epochs: int
    batch: int
    lr: float
    theta_lr: float


@dataclass(frozen=True, slots=True)
class Preset:
    """Sizes of a run: images to train and to test with, searches by strategy, epochs and batch of trainings, seeds."""

    limit: int | None
    searches: dict[str, Schedule]
    train_epochs: int
    train_batch: int
    seeds: int = 3
    steps: int | None = None


PRESETS = {
    "cpu": Preset(
        6000,
        {"single-path": Schedule(7, 16, 0.03, 0.1), "mixture": Schedule(10, 32, 0.05, 0.05)},
        train_epochs=15,
        train_batch=64,
    ),
    "gpu": Preset(
        None,
        {"single-path": Schedule(90, 192, 0.1, 0.01), "mixture": Schedule(90, 192, 0.1, 0.01)},
        train_epochs=90,
        train_batch=128,
    ),
    "quick": Preset(
        300,
        {"single-path": Schedule(2, 16, 0.03, 0.1), "mixture": Schedule(2, 32, 0.05, 0.05)},
        train_epochs=1,
        train_batch=32,
        seeds=1,
        steps=2,
    ),
}
"""On two cores single-path has batch and rates of the search preset `quick`: its steps cost less, so it takes more."""


class Bench:
    """One run of the benchmark: what all its parts share, and the results of those that are finished."""

    def __init__(
        self, preset: Preset, data: Data, space: Space, lut: Lut, compute: Compute, out: Path, space_name: str = ""
    ) -> None:
        self.preset, self.data, self.space, self.compute, self.out = preset, data, space, compute, out
        self.lut, self.space_name = lut, space_name or space.name
        cost = COSTS.load("lut").build(space, lut)
        assert isinstance(cost, StepCost)
        self.cost, self.target_us = cost, sum(reachable(cost)) / 2

    def part(self, name: str, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return a part's result, from the folder where it is finished."""
        path = self.out / f"{name}.json"
        if not path.exists():
            print(f"{name} …", file=sys.stderr, flush=True)
            write_text(path, json.dumps(compute()))
        result: dict[str, Any] = json.loads(path.read_text())
        return result

    def open(self, strategy: str, seed: int) -> Search:
        """Return a search at its start."""
        schedule = self.preset.searches.get(strategy, self.preset.searches["mixture"])
        settings = Settings(
            space=self.space.name,
            data=self.data.name,
            strategy=strategy,
            loss="target",
            **asdict(schedule),
            limit=self.preset.limit,
            steps=self.preset.steps,
            seed=seed,
        )
        skips = self.space.skips
        objective = Objective("table", self.cost, self.target_us, LOSSES.load("target"), skips, settings)
        net = SuperNet.of(self.space, len(self.data.classes), seed)
        before_search(self.compute.device.type == "cpu" and STRATEGIES.find(strategy).one_path, masked=False)
        return Search(net, [objective], self.space, self.data, settings, self.compute)

    def search(self, strategy: str, seed: int) -> dict[str, Any]:
        """Search, and return the choices with the seconds that it took; a search that was killed starts anew."""
        search = self.open(strategy, seed)
        folder = RunFolder(self.out / f"{strategy}-{seed}", {"started": time.time()}, {})
        folder.clear()
        start = time.perf_counter()
        search.run(folder)
        best = derive(search, search.objectives[0], search.settings.samples + 1)[0]
        seconds = time.perf_counter() - start
        return {"choices": best.choices, "seconds": seconds, "latency_us": best.cost}

    def random(self, seed: int) -> dict[str, Any]:
        """Draw networks near the target."""
        search = self.open("random", seed)
        networks = Networks(search, search.objectives[0], generator_of(seed, "random networks"))
        uniform = [torch.zeros(len(layer.candidates)) for layer in self.space.layers]
        drawn: dict[tuple[int, ...], None] = {}
        while len(drawn) < RANDOM_PER_SEED:
            choices = networks.sample(uniform)
            assert choices is not None  # the target lies in the middle of what is reachable
            drawn[choices] = None
        names = [list(layer.candidates) for layer in self.space.layers]
        return {"choices": [[of[i] for of, i in zip(names, each, strict=True)] for each in drawn]}

    def train(self, name: str, choices: list[str], seed: int) -> dict[str, Any]:
        """Train a network from scratch, and look at the test images."""
        recipe = Recipe(
            epochs=self.preset.train_epochs,
            batch=self.preset.train_batch,
            augment="crop-flip",
            warmup=min(1, self.preset.train_epochs - 1),
            seed=seed,
            steps=self.preset.steps,
        )
        architecture = choose(self.space_name, choices, name)
        folder = RunFolder(self.out / f"train-{name}", {"choices": list(choices), "preset": repr(self.preset)}, {})
        trained = train(architecture, architecture.load_space(), self.data, recipe, folder, self.compute)
        test = evaluate(trained.network, self.data, self.data.test, 256, self.compute)
        return {"test_accuracy_percent": test.top1_percent, "seconds": trained.seconds}


def made_up_table(space: Space) -> Lut:
    """Return a table of so much to start an operator, and so much for a multiply-accumulate."""
    rows = {spec.key(): Row(spec, 8 + 60e-6 * count_spec(spec).macs, samples=9) for spec in space.operators()}
    metadata = Metadata(
        space=space.name, device="made-up", runtime="litert", runtime_version="1", precision="float32", threads=1
    )
    return Lut(metadata, rows)


def run(bench: Bench) -> list[Figure]:
    """Do what is not done yet, one seed after the other, and return the figures."""
    accuracies: dict[str, list[float]] = {name: [] for name in (*FOUND, "random")}
    seconds: dict[str, list[float]] = {name: [] for name in FOUND}
    seeds, started = bench.preset.seeds, time.monotonic()
    for seed in range(seeds):
        networks: list[tuple[str, list[str]]] = []
        for strategy in FOUND:
            found = bench.part(f"search-{strategy}-{seed}", lambda s=strategy, i=seed: bench.search(s, i))  # type: ignore[misc]
            seconds[strategy].append(found["seconds"])
            networks.append((strategy, found["choices"]))
        drawn = bench.part(f"random-{seed}", lambda i=seed: bench.random(i))  # type: ignore[misc]
        networks += [("random", choices) for choices in drawn["choices"]]
        for number, (kind, choices) in enumerate(networks):
            name = f"{kind}-{seed}-{number}"
            trained = bench.part(f"trained-{name}", lambda n=name, c=choices, i=seed: bench.train(n, c, i))  # type: ignore[misc]
            accuracies[kind].append(trained["test_accuracy_percent"])
            print(f"{name}: {accuracies[kind][-1]:.2f} % of the test images", file=sys.stderr)
        left_min = (time.monotonic() - started) / (seed + 1) * (seeds - seed - 1) / 60
        print(f"seed {seed + 1} of {seeds} done, about {left_min:.0f} min left", file=sys.stderr)
    return figures_of(accuracies, seconds)


def figures_of(accuracies: dict[str, list[float]], seconds: dict[str, list[float]]) -> list[Figure]:
    """Return means, spreads and differences."""
    mean = {kind: statistics.mean(values) for kind, values in accuracies.items()}
    spread = {kind: statistics.stdev(values) if len(values) > 1 else 0.0 for kind, values in accuracies.items()}
    ratio = statistics.mean(seconds["single-path"]) / statistics.mean(seconds["mixture"])
    figures = [
        Figure("single_path_minus_mixture", mean["single-path"] - mean["mixture"], "points", -0.5, "at_least"),
        Figure("single_path_time_of_mixture", ratio, "x", 0.2),
        Figure("single_path_minus_random", mean["single-path"] - mean["random"], "points", 0.0, "at_least"),
        Figure("mixture_minus_random", mean["mixture"] - mean["random"], "points", 0.0, "at_least"),
    ]
    for kind in accuracies:
        key = kind.replace("-", "_")
        figures.append(Figure(f"{key}_accuracy", mean[kind], "%"))
        figures.append(Figure(f"{key}_spread", spread[kind], "points"))
        figures += [Figure(f"{key}_{i}", value, "%") for i, value in enumerate(accuracies[kind])]
    return figures + [
        Figure(f"{kind.replace('-', '_')}_search", statistics.mean(values), "s") for kind, values in seconds.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--quick", action="store_true", help="a trial of one seed and few steps; its figures mean nothing"
    )
    parser.add_argument("--preset", choices=["cpu", "gpu"], default="cpu")
    parser.add_argument("--data", type=Path, default=DATA, help="CIFAR-10 as an .npz file")
    parser.add_argument(
        "--lut", type=Path, help="a table of fbnet-tiny; without it, one linear in multiply-accumulates"
    )
    parser.add_argument("--out", type=Path, help="folder of finished parts; runs/search_quality-PRESET unless given")
    arguments = parser.parse_args()
    before_torch()
    name = "quick" if arguments.quick else arguments.preset
    if not has_images("search_quality", arguments.data, preset=name):
        return
    preset, space = PRESETS[name], load_space("fbnet-tiny")
    compute = Compute.choose("cuda" if arguments.preset == "gpu" else "cpu")
    data = load_data(str(arguments.data), space.input_shape, 0, preset.limit, device=compute.device)
    lut = read_lut(arguments.lut) if arguments.lut else made_up_table(space)
    out = arguments.out or Path("runs") / f"search_quality-{name}"
    check_same(out, {"preset": repr(preset), "images": data.fingerprint, "table": str(arguments.lut)})
    bench = Bench(preset, data, space, lut, compute, out)
    figures = run(bench)
    if arguments.quick:
        figures = [Figure(figure.name, figure.value, figure.unit) for figure in figures]
    report("search_quality", figures, preset=asdict(preset), device=str(compute.device), target_us=bench.target_us)


def check_same(out: Path, inputs: dict[str, str]) -> None:
    """Refuse to go on in the folder of another run."""
    path = out / "inputs.json"
    if path.exists() and json.loads(path.read_text()) != inputs:
        sys.exit(f"error: {out} holds parts of another run; choose another folder with --out, or remove it")
    write_text(path, json.dumps(inputs))


if __name__ == "__main__":
    main()
