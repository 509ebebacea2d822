"""The memory of a search over widths and expansions, beside that of FBNet's space: single-path, steps of w and of θ.

usage: python benchmarks/masking_memory.py [--quick]

FBNet's macro architecture for 32x32 images (that of search_step.py), batch 128, two threads. The masked space has the
same stages with FBNet's widths as the largest, 3x3 and 5x5 blocks with ReLU as FBNet's, 8 widths and 9 expansions up to
6 in every layer. Each is a process of its own, they take turns, and memory is the peak over the idle process's.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from _report import Figure, peak_mb, report
from search_step import BATCH, SPACE

from fbsearch.beyond.chain import expected_cost
from fbsearch.costs import COSTS
from fbsearch.fbnet.objective import Objective
from fbsearch.fbnet.search import Search
from fbsearch.fbnet.settings import Settings
from fbsearch.fbnet.supernet import SuperNet
from fbsearch.fbnetv2.supernet import MaskedNet
from fbsearch.images.data import load_data
from fbsearch.losses import LOSSES
from fbsearch.machine.process import before_search, before_torch
from fbspace.space import Space, load_space

WIDTHS, EXPANSIONS = 8, (0.75, 1.5, 2, 2.5, 3, 3.75, 4.5, 5.25, 6)
STAGES = ((16, 1, 1), (24, 4, 2), (32, 4, 2), (64, 4, 2), (112, 4, 1), (184, 4, 2), (352, 1, 1))
MASKED = """
description = "FBNet's stages, with widths and expansions"
input = {{ channels = 3, size = 32 }}
classes = 10
head_channels = [1504]
stem = [{{ kind = "conv", channels = 16, kernel = 3, stride = 2 }}]
expansions = {expansions}
stages = [{stages}]
[candidates]
k3 = {{ kind = "mbconv", kernel = 3 }}
k5 = {{ kind = "mbconv", kernel = 5 }}
skip = {{ kind = "skip", activation = "none" }}
"""


def load(name: str) -> Space:
    """Return FBNet's space, or the masked one."""
    stages = [
        f"{{ channels = {[round(width * i / WIDTHS) for i in range(1, WIDTHS + 1)]}, "
        f"repeats = {repeats}, stride = {stride} }}"
        for width, repeats, stride in STAGES
    ]
    text = SPACE if name == "fbnet" else MASKED.format(expansions=list(EXPANSIONS), stages=", ".join(stages))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"{name}.toml"
        file.write_text(text)
        return load_space(str(file))


def measure(name: str, steps: int) -> dict[str, Any]:
    """Return the peak memory over that of the idle process, in MB."""
    before_torch()
    torch.set_num_threads(2)
    torch.optim.SGD([torch.zeros(1)])  # imports as much as torch itself
    space = load(name)
    data = load_data("digits", space.input_shape, seed=0, limit=200)
    before_search(one_path=True, masked=space.is_masked)
    idle_mb = peak_mb()
    settings = Settings(space=space.name, data="digits", strategy="single-path", cost="macs", limit=200)
    cost = expected_cost(COSTS.load("macs"), space, None)  # type: ignore[arg-type]  # it looks at no table
    objective = Objective("macs", cost, None, LOSSES.load("paper"), space.skips, settings)
    net = (MaskedNet if space.is_masked else SuperNet).of(space, 10, 0)
    search = Search(net, [objective], space, data, settings)
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(BATCH, 3, 32, 32, generator=generator), torch.randint(0, 10, (BATCH,), generator=generator)
    for _ in range(steps):
        search.w_step(x, y, 5.0, generator)
    for _ in range(steps):
        search.theta_step(objective, x, y, 5.0, generator)
    return {"memory_mb": peak_mb() - idle_mb}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one turn of few steps")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(arguments.one[0], int(arguments.one[1]))))
        return
    turns, steps = (1, 20) if arguments.quick else (3, 60)
    found: dict[str, list[float]] = {"fbnet": [], "masked": []}
    for _ in range(turns):
        for name, results in found.items():
            argv = [sys.executable, __file__, "--one", name, str(steps)]
            results.append(json.loads(subprocess.run(argv, check=True, stdout=subprocess.PIPE).stdout)["memory_mb"])
    memory = {name: statistics.median(results) for name, results in found.items()}
    more = load("masked").networks_log10 - load("fbnet").networks_log10
    figures = [
        Figure("memory_of_fbnet", memory["masked"] / memory["fbnet"], "x", 1.2),
        Figure("more_networks", more, "log10", 20, "at_least"),
    ]
    figures += [Figure(f"{name}_memory", value, "MB") for name, value in memory.items()]
    report("masking_memory", figures, quick=arguments.quick, turns=turns, steps=steps, batch=BATCH)


if __name__ == "__main__":
    main()
