"""Whether the search finds the optimum where it is known: networks whose accuracy and latency are sums over layers.

usage: python benchmarks/search_optimum.py [--quick]

22 layers of nine candidates, as in FBNet, one of them skip. Candidate i of layer l moves the score of an image's class
by its value v(l, i) >= 0, plus noise that differs from image to image: cross-entropy falls as the sum of a network's
values grows. Latencies are random, and dearer candidates are better on average; the target is half-way between
the fastest and the slowest network. The optimum, the greatest sum of values at no more than the target, is found by
dynamic programming. All else is what `fbsearch run` uses: steps, losses, controller, strategies, and the choice at the
end. 20 seeds draw tasks and searches. Reported for every strategy: in how many the network found has at least 99 % of
the optimum's value, in how many it takes 97 to 100 % of the target, and how much of the way from the mean random
network near the target to the optimum was left.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from _report import Figure, report
from torch import Tensor, nn

from fbsearch.costs import AdditiveCost
from fbsearch.fbnet.derive import Networks, derive
from fbsearch.fbnet.objective import Objective
from fbsearch.fbnet.search import Search
from fbsearch.fbnet.settings import TARGET_SHARE, Settings
from fbsearch.fbnet.supernet import SuperNet
from fbsearch.images.data import Data, load_data
from fbsearch.images.split import Shares
from fbsearch.losses import LOSSES
from fbsearch.machine.checkpoint import RunFolder
from fbsearch.machine.seeds import generator_of
from fbsearch.strategies import STRATEGIES, Choices
from fbspace.space import Space, load_space

SEEDS = 20
NEEDED = 18
SHARE = 0.99
IMAGES = 4096
NOISE = 0.05
"""Standard deviation over candidates; a network's noise costs it about what 0.1 % of its value brings."""
SETTINGS: dict[str, Any] = {
    "batch": 64,
    "theta_lr": 0.02,
    "theta_weight_decay": 1e-4,
    "lr": 0.01,
    "w_share": 0.25,
    "skip_delay": 0.0,
    "loss": "target",
}
"""Skip need not wait where no candidate has weights to learn."""
BUDGETS: dict[str, dict[str, int]] = {
    "single-path": {"epochs": 60},
    "evolution": {"epochs": 4, "batch": 512, "evaluations": 4000},
    "random": {"epochs": 4, "batch": 512, "evaluations": 300},
}
"""Half a minute to two each on one core: steps of one path are cheap, and the last two spend theirs on judging."""
OTHERS = {"epochs": 20}
QUICK = {"epochs": 6, "evaluations": 20}
Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Task:
    """Value, noise and latency (whole µs) of every candidate, layers by candidates, and the target in µs."""

    value: Array
    noise: Array
    latency_us: npt.NDArray[np.int64]
    target_us: int

    @classmethod
    def draw(cls, skips: npt.NDArray[np.bool_], seed: int) -> "Task":
        """Draw a task; skip takes and adds nothing."""
        rng = np.random.default_rng(seed)
        size = skips.shape
        latency_us = rng.integers(20, 200, (size[0], 1)) * rng.uniform(0.2, 1, size)
        # half of a value is the layer's gain from more computation, with falling returns; half is luck
        gain = np.sqrt(latency_us / latency_us.max(1, keepdims=True)) + rng.uniform(0, 1, size)
        value = rng.uniform(0.2, 1, (size[0], 1)) * gain / 2
        value[skips] = latency_us[skips] = 0
        whole_us = latency_us.round().astype(np.int64)
        target_us = int(whole_us.min(1).sum() + whole_us.max(1).sum()) // 2
        return cls(value, rng.normal(0, NOISE, size), whole_us, target_us)

    def optimum(self) -> float:
        """Return the greatest value at no more than the target: best[t] is that of the layers so far in t µs."""
        best = np.zeros(self.target_us + 1)
        for value, latency_us in zip(self.value, self.latency_us, strict=True):
            options = [np.full(len(best), -np.inf) for _ in value]
            for option, v, t in zip(options, value, latency_us, strict=True):
                option[t:] = best[: len(best) - t] + v
            best = np.max(options, axis=0)
        return float(best[-1])

    def value_of(self, choices: Sequence[int]) -> float:
        """Return a network's value."""
        return float(self.value[range(len(choices)), choices].sum())


class Stem(nn.Module):
    """N, 3, H, W → N, 3: the mean of each channel, that is class (±1), score and noise of an image."""

    def __init__(self, start: float) -> None:
        super().__init__()
        self.start = start

    def forward(self, x: Tensor) -> Tensor:
        """Return the means, the score put where the mean network ends at zero."""
        sign, score, noise = x.mean((2, 3)).unbind(1)
        return torch.stack([sign, score + self.start * sign, noise], 1)


class Candidate(nn.Module):
    """Moves the score towards the class by its value, and by noise; a matrix, since 198 of them run in a step."""

    def __init__(self, value: float, noise: float) -> None:
        super().__init__()
        self.matrix: Tensor
        self.register_buffer("matrix", torch.tensor([[1, value, 0], [0, 1, 0], [0, noise, 1]]))

    def forward(self, x: Tensor) -> Tensor:
        """Map N, 3 to the same."""
        y: Tensor = x @ self.matrix
        return y


class Head(nn.Module):
    """The score as the logits of two classes, with a bias to learn: the only weights of the supernet."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(2))

    def forward(self, x: Tensor) -> Tensor:
        """Map N, 3 to N, 2."""
        score = x[:, 1] / 4
        return torch.stack([-score, score], 1) + self.bias


def make_data(seed: int, folder: Path) -> Data:
    """Return images of one colour: red says the class, green and blue are noise."""
    rng = np.random.default_rng([seed, 1])
    labels = np.arange(2 * IMAGES) % 2
    pixels = rng.normal(128, 40, (2 * IMAGES, 1, 1, 3)).clip(0, 255).repeat(2, 1).repeat(2, 2)
    pixels[..., 0] = 255 * labels[:, None, None]
    path, half = folder / f"{seed}.npz", IMAGES
    x = pixels.astype(np.uint8)
    np.savez(path, x_train=x[:half], y_train=labels[:half], x_test=x[half:], y_test=labels[half:])
    return load_data(f"npz:{path}", (1, 3, 2, 2), seed, shares=Shares(SETTINGS["w_share"]))


def build(space: Space, task: Task, data: Data, settings: Settings) -> Search:
    """Return the search of a task."""
    layers = [
        [Candidate(*pair) for pair in zip(*of_layer, strict=True)]
        for of_layer in zip(task.value.tolist(), task.noise.tolist(), strict=True)
    ]
    net = SuperNet(Stem(-float(task.value.mean(1).sum())), layers, Head())
    cost = AdditiveCost(space, lambda _: 0.0, "µs")
    cost.layers = [torch.tensor(of_layer, dtype=torch.float64) for of_layer in task.latency_us.tolist()]
    objective = Objective(
        "task", cost, float(task.target_us), LOSSES.load(settings.loss), skips_of(space).tolist(), settings
    )
    return Search(net, [objective], space, data, settings)


def skips_of(space: Space) -> npt.NDArray[np.bool_]:
    """Return which candidates are skip, layers by candidates."""
    return np.array([[spec.kind == "skip" for spec in layer.candidates.values()] for layer in space.layers])


def budget(strategy: str, quick: bool) -> dict[str, Any]:
    """Return the settings of a strategy's searches."""
    return SETTINGS | BUDGETS.get(strategy, OTHERS) | (QUICK if quick else {})


def run_one(strategy: str, seed: int, chosen: dict[str, Any]) -> dict[str, float]:
    """Search under one seed; return shares of the optimum's value and of the target, what was left, and seconds."""
    torch.set_num_threads(1)
    space = load_space("fbnet")
    task = Task.draw(skips_of(space), seed)
    settings = Settings(space="fbnet", data="made-up", strategy=strategy, seed=seed, **chosen)
    with tempfile.TemporaryDirectory() as folder:
        data = make_data(seed, Path(folder))
        search = build(space, task, data, settings)
        start = time.perf_counter()
        search.run(RunFolder(Path(folder), {}, {}))
        objective = search.objectives[0]
        best = derive(search, objective, settings.samples + 1)[0]
        seconds = time.perf_counter() - start
    names = [list(layer.candidates) for layer in space.layers]
    found = task.value_of([of_layer.index(name) for of_layer, name in zip(names, best.choices, strict=True)])
    optimum = task.optimum()
    networks = Networks(search, objective, generator_of(seed, "random networks"))
    drawn: list[Choices | None] = [networks.sample([torch.zeros_like(t) for t in objective.theta]) for _ in range(20)]
    average = statistics.mean(task.value_of(choices) for choices in drawn if choices is not None)
    return {
        "value_share": found / optimum,
        "target_share": best.cost / task.target_us,
        "left": (optimum - found) / (optimum - average),
        "seconds": seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two seeds, a short search; the goals do not apply")
    parser.add_argument("--seeds", type=int, help=f"tasks, {SEEDS} unless given")
    parser.add_argument("--strategy", action="append", help="only this one (repeatable)")
    arguments = parser.parse_args()
    seeds = arguments.seeds or (2 if arguments.quick else SEEDS)
    figures, settings = [], {}
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        for name in arguments.strategy or STRATEGIES.names():
            settings[name] = budget(name, arguments.quick)
            jobs = [pool.submit(run_one, name, seed, settings[name]) for seed in range(seeds)]
            results = [job.result() for job in jobs]
            shares = ", ".join(f"{result['value_share']:.4f}" for result in results)
            print(f"{name}: shares of the optimum {shares}", file=sys.stderr, flush=True)
            near = sum(result["value_share"] >= SHARE for result in results)
            hit = sum(TARGET_SHARE <= result["target_share"] <= 1 for result in results)
            goal = NEEDED if name != "random" and seeds == SEEDS else None
            key = name.replace("-", "_")
            figures += [
                Figure(f"{key}_within_1_percent", near, "tasks", goal, "at_least"),
                Figure(f"{key}_target_hit", hit, "tasks", SEEDS if seeds == SEEDS else None, "at_least"),
                Figure(f"{key}_worst_share", 100 * min(result["value_share"] for result in results), "%"),
                Figure(f"{key}_median_share", 100 * statistics.median(r["value_share"] for r in results), "%"),
                Figure(f"{key}_left", 100 * statistics.mean(result["left"] for result in results), "%"),
                Figure(f"{key}_search", statistics.median(result["seconds"] for result in results), "s"),
            ]
    report("search_optimum", figures, quick=arguments.quick, seeds=seeds, settings=settings)


if __name__ == "__main__":
    main()
