"""How long a step of the search takes and how much memory it needs, beside the plain way of computing a mixture.

usage: python benchmarks/search_step.py [--quick]

The plain way is that of public reproductions: every candidate in its own branch, channels first, the gradients of all
parameters in the step of w as well as in that of θ. FBNet's 22 layers on 32x32 images, batch 128, two threads. Every
strategy runs in a process of its own; its peak memory counts from before the network is built. Processes take turns,
and of each one's steps the median counts. single-path warms up longer, until nearly every operator has run once.
"""

import argparse
import functools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from _report import Figure, peak_mb, report
from torch import Tensor, nn

from fblut.table import Lut, Metadata, Row
from fbsearch.costs import COSTS
from fbsearch.fbnet.objective import Objective
from fbsearch.fbnet.search import Search
from fbsearch.fbnet.settings import Settings
from fbsearch.fbnet.supernet import SuperNet
from fbsearch.images.data import Data, load_data
from fbsearch.losses import LOSSES
from fbsearch.machine.convolutions import DepthwiseConv2d
from fbsearch.machine.process import before_search
from fbsearch.theta import gumbel_softmax
from fbspace.network import count_spec
from fbspace.space import Space, load_space

BATCH = 128
GOALS = {
    "mixture": {"w": 0.42, "theta": 0.25},
    "single-path": {"w": 0.05, "theta": 0.04, "memory": 0.25},
}
SPACE = """
description = "FBNet macro-architecture, the stem and three stages with stride 2, for 32x32 images"
input = { channels = 3, size = 32 }
classes = 10
head_channels = [1504]
stem = [{ kind = "conv", channels = 16, kernel = 3, stride = 2 }]
stages = [
  { channels = 16, repeats = 1, stride = 1 },
  { channels = 24, repeats = 4, stride = 2 },
  { channels = 32, repeats = 4, stride = 2 },
  { channels = 64, repeats = 4, stride = 2 },
  { channels = 112, repeats = 4, stride = 1 },
  { channels = 184, repeats = 4, stride = 2 },
  { channels = 352, repeats = 1, stride = 1 },
]
[candidates]
k3_e1 = { kind = "ir", kernel = 3, expansion = 1 }
k3_e1_g2 = { kind = "ir", kernel = 3, expansion = 1, groups = 2 }
k3_e3 = { kind = "ir", kernel = 3, expansion = 3 }
k3_e6 = { kind = "ir", kernel = 3, expansion = 6 }
k5_e1 = { kind = "ir", kernel = 5, expansion = 1 }
k5_e1_g2 = { kind = "ir", kernel = 5, expansion = 1, groups = 2 }
k5_e3 = { kind = "ir", kernel = 5, expansion = 3 }
k5_e6 = { kind = "ir", kernel = 5, expansion = 6 }
skip = { kind = "skip" }
"""

Step = Callable[[Tensor, Tensor, float, torch.Generator], Any]


class PlainSearch(Search):
    """The plain way: all branches, channels first, all gradients in both steps."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.net.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        for module in self.net.modules():
            if isinstance(module, DepthwiseConv2d):
                module.__class__ = nn.Conv2d  # as torch has it
            if isinstance(module, nn.ReLU):
                module.inplace = False

    def plain_forward(self, x: Tensor, m: Sequence[Tensor]) -> Tensor:
        """Return the logits."""
        x = self.net.stem(x)
        for candidates, m_l in zip(self.net.layers, m, strict=True):
            assert isinstance(candidates, nn.ModuleList)
            x = sum(m_i * b_i(x) for m_i, b_i in zip(m_l, candidates, strict=True))  # type: ignore[assignment]
        logits: Tensor = self.net.head(x)
        return logits

    def plain_step(
        self,
        optimizer: torch.optim.Optimizer,
        objective: Objective,
        x: Tensor,
        y: Tensor,
        temperature: float,
        generator: torch.Generator,
    ) -> None:
        """Compute the gradients of everything and take the optimiser's step."""
        m = [gumbel_softmax(theta_l, temperature, generator) for theta_l in objective.theta]
        loss = objective.weigh(F.cross_entropy(self.plain_forward(x, m), y), m)
        self.net.zero_grad()
        objective.theta.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    def w_step(self, *arguments: Any) -> Any:
        """Take a step of w."""
        self.plain_step(self.w_optimizer, self.objectives[0], *arguments)

    def theta_step(self, objective: Objective, *arguments: Any) -> Any:
        """Take a step of θ."""
        self.plain_step(objective.optimizer, objective, *arguments)


def load() -> tuple[Space, Data]:
    """Return the space, and the data that a search asks for; the steps are given other images."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "fbnet-32.toml").write_text(SPACE)
        space = load_space(str(Path(folder) / "fbnet-32.toml"))
    return space, load_data("digits", space.input_shape, seed=0, limit=200)


def build_search(name: str, space: Space, data: Data) -> Search:
    """Return the search of a strategy, or the plain way's."""
    settings = Settings(space=space.name, data="digits", strategy="mixture" if name == "plain" else name, limit=200)
    make = PlainSearch if name == "plain" else Search
    before_search(one_path=name == "single-path", masked=False)
    skips = space.skips
    cost = COSTS.load("lut").build(space, made_up_table(space))
    objective = Objective("made-up", cost, None, LOSSES.load(settings.loss), skips, settings)
    return make(SuperNet.of(space, len(data.classes), settings.seed), [objective], space, data, settings)


def made_up_table(space: Space) -> Lut:
    rows = {spec.key(): Row(spec, 8 + 60e-6 * count_spec(spec).macs, samples=9) for spec in space.operators()}
    metadata = Metadata(
        space=space.name, device="made-up", runtime="litert", runtime_version="1", precision="float32", threads=1
    )
    return Lut(metadata, rows)


def measure(name: str, warmup: int, steps: int, threads: int) -> dict[str, Any]:
    """Return the seconds of every step of w and of θ, and the peak memory over that of the idle process, in MB."""
    torch.set_num_threads(threads)
    torch.optim.SGD([torch.zeros(1)])  # imports as much as torch itself
    space, data = load()
    idle_mb = peak_mb()
    search = build_search(name, space, data)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(BATCH, 3, 32, 32, generator=generator)
    y = torch.randint(0, 10, (BATCH,), generator=generator)
    times: dict[str, Any] = {}
    theta_step = functools.partial(search.theta_step, search.objectives[0])
    for kind, step in (("w", search.w_step), ("theta", theta_step)):
        times[kind] = [one_step_s(step, x, y, generator) for _ in range(warmup + steps)][warmup:]
    return times | {"memory_mb": peak_mb() - idle_mb}


def one_step_s(step: Step, x: Tensor, y: Tensor, generator: torch.Generator) -> float:
    start = time.perf_counter()
    step(x, y, 5.0, generator)
    return time.perf_counter() - start


def measure_in_process(name: str, warmup: int, steps: int, threads: int) -> dict[str, Any]:
    argv = [sys.executable, __file__, "--one", name, "--warmup", str(warmup)]
    argv += ["--steps", str(steps), "--threads", str(threads)]
    pages = {"THP_MEM_ALLOC_ENABLE": "0" if name == "plain" else "1"}  # the plain way asks torch for nothing
    done = subprocess.run(argv, check=True, stdout=subprocess.PIPE, env=os.environ | pages)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer steps, one turn")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--warmup", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--steps", type=int, default=1, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(arguments.one, arguments.warmup, arguments.steps, arguments.threads)))
        return
    turns = 1 if arguments.quick else 3
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in ("plain", *GOALS)}
    for _ in range(turns):
        for name, results in found.items():
            warmup, steps = (40, 20) if name == "single-path" else (1, 2 if arguments.quick else 3)
            results.append(measure_in_process(name, warmup, steps, arguments.threads))
    medians = {name: summary(results) for name, results in found.items()}
    figures = []
    for name, goals in GOALS.items():
        for kind in ("w", "theta", "memory"):
            ratio = medians[name][kind] / medians["plain"][kind]
            figures.append(Figure(f"{name}_{kind}_of_plain", ratio, "x", goal=goals.get(kind)))
    units = {"w": "s", "theta": "s", "memory": "MB"}
    for name, values in medians.items():
        figures += [Figure(f"{name}_{kind}", values[kind], unit) for kind, unit in units.items()]
    report("search_step", figures, quick=arguments.quick, threads=arguments.threads, batch=BATCH, turns=turns)


def summary(results: list[dict[str, Any]]) -> dict[str, float]:
    """Return the median seconds of all turns' steps, and the median peak memory."""
    medians = {kind: statistics.median([t for result in results for t in result[kind]]) for kind in ("w", "theta")}
    return medians | {"memory": statistics.median(result["memory_mb"] for result in results)}


if __name__ == "__main__":
    main()
