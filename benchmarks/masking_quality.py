"""Whether searched widths beat uniform ones of the same multiply-accumulates: CIFAR-10, three seeds.

usage: python benchmarks/masking_quality.py [--quick] [--data FILE] [--out FOLDER]

Eight blocks of one kind and expansion in five stages, whose widths are searched (9 options each, half of the width to
one and a half times it) by mixture under the multiply-accumulates of the network whose widths are all at 1. That one is
the uniform network. Both are trained from scratch by one recipe, with the same seed, and look at the test images once.
Reported: test accuracies by seed, means, standard deviations over seeds, and their difference. Finished parts are kept
in --out, and a run that was killed goes on there.
"""

import argparse
import dataclasses
import statistics
import sys
from pathlib import Path

from _report import Figure, has_images, report
from search_quality import DATA, PRESETS, Bench, check_same, made_up_table

from fbsearch.beyond.chain import expected_cost
from fbsearch.costs import COSTS
from fbsearch.fbnet.objective import Objective
from fbsearch.fbnet.search import Search
from fbsearch.fbnet.settings import Settings
from fbsearch.fbnetv2.supernet import MaskedNet
from fbsearch.images.data import load_data
from fbsearch.losses import LOSSES
from fbsearch.machine.compute import Compute
from fbsearch.machine.process import before_search, before_torch
from fbsearch.strategies import STRATEGIES
from fbsearch.theta import one_hot
from fbspace.space import load_space

STAGES = ((16, 1, 1), (24, 2, 2), (40, 2, 2), (80, 2, 1), (128, 1, 1))
"""Width at 1, layers, and stride: those of fbnet-tiny."""
FACTORS = (0.5, 0.625, 0.75, 0.875, 1.0, 1.125, 1.25, 1.375, 1.5)


def space_file() -> str:
    """Return the space."""
    stages = [
        f"  {{ channels = {sorted({round(width * f) for f in FACTORS})}, one_width = true, "
        f"repeats = {repeats}, stride = {stride} }},"
        for width, repeats, stride in STAGES
    ]
    return "\n".join(
        [
            'description = "widths alone"',
            "input = { channels = 3, size = 32 }",
            "classes = 10",
            "head_channels = [256]",
            'stem = [{ kind = "conv", channels = 16, kernel = 3, stride = 2 }]',
            "expansions = [3]",
            "stages = [",
            *stages,
            "]",
            "[candidates]",
            'k3 = { kind = "mbconv", kernel = 3 }',
        ]
    )


class MaskingBench(Bench):
    """The same parts, with multiply-accumulates as the cost and those of the uniform network as the target."""

    @property
    def uniform(self) -> list[str]:
        """The choices of the uniform network."""
        widths = iter([str(width) for width, _, _ in STAGES])
        return ["k3" if decision.what == "block" else next(widths) for decision in self.space.decisions]

    def open(self, strategy: str, seed: int) -> Search:
        """Return a search at its start."""
        preset, decisions = self.preset, self.space.decisions
        settings = Settings(
            space=self.space.name,
            data=self.data.name,
            strategy=strategy,
            cost="macs",
            loss="target",
            **dataclasses.asdict(preset.searches[strategy]),
            limit=preset.limit,
            steps=preset.steps,
            seed=seed,
        )
        cost = expected_cost(COSTS.load("macs"), self.space, self.lut)
        chosen = [one_hot(d.options.index(c), len(d.options)) for d, c in zip(decisions, self.uniform, strict=True)]
        objective = Objective("macs", cost, float(cost(chosen)), LOSSES.load("target"), self.space.skips, settings)
        net = MaskedNet.of(self.space, len(self.data.classes), seed)
        before_search(self.compute.device.type == "cpu" and STRATEGIES.find(strategy).one_path, masked=True)
        return Search(net, [objective], self.space, self.data, settings, self.compute)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one seed and few steps; its figures mean nothing")
    parser.add_argument("--data", type=Path, default=DATA, help="CIFAR-10 as an .npz file")
    parser.add_argument("--out", type=Path, help="folder of finished parts; runs/masking_quality unless given")
    arguments = parser.parse_args()
    before_torch()
    name = "quick" if arguments.quick else "cpu"
    if not has_images("masking_quality", arguments.data, preset=name):
        return
    out = arguments.out or Path("runs") / ("masking_quality" + ("-quick" if arguments.quick else ""))
    out.mkdir(parents=True, exist_ok=True)
    file = out / "widths.toml"
    file.write_text(space_file())
    space, preset = load_space(str(file)), PRESETS[name]
    data = load_data(str(arguments.data), space.input_shape, 0, preset.limit)
    check_same(out, {"preset": repr(preset), "images": data.fingerprint, "space": space_file()})
    bench = MaskingBench(preset, data, space, made_up_table(space), Compute(), out, str(file))
    accuracies: dict[str, list[float]] = {"searched": [], "uniform": []}
    macs: list[float] = []
    for seed in range(preset.seeds):
        found = bench.part(f"search-{seed}", lambda i=seed: bench.search("mixture", i))  # type: ignore[misc]
        macs.append(found["latency_us"])
        for kind, choices in (("searched", found["choices"]), ("uniform", bench.uniform)):
            trained = bench.part(
                f"trained-{kind}-{seed}",
                lambda n=f"{kind}-{seed}", c=choices, i=seed: bench.train(n, c, i),  # type: ignore[misc]
            )
            accuracies[kind].append(trained["test_accuracy_percent"])
            print(f"{kind}, seed {seed}: {accuracies[kind][-1]:.2f} % of the test images", file=sys.stderr)
    margins = [a - b for a, b in zip(accuracies["searched"], accuracies["uniform"], strict=True)]
    spread = statistics.stdev(margins) if len(margins) > 1 else 0.0
    target = bench.open("mixture", 0).objectives[0].target
    assert target is not None
    figures = [
        Figure("searched_minus_uniform", statistics.mean(margins), "points", 0.0, "at_least"),
        Figure("macs_of_uniform", max(macs) / target, "x", 1.0),
        Figure("margin_spread", spread, "points"),
    ]
    figures += [
        Figure(f"{kind}_{seed}", value, "%") for kind, values in accuracies.items() for seed, value in enumerate(values)
    ]
    if arguments.quick:
        figures = [Figure(figure.name, figure.value, figure.unit) for figure in figures]
    report("masking_quality", figures, preset=dataclasses.asdict(preset), target_macs=target)


if __name__ == "__main__":
    main()
