"""How many layers a search leaves out: every strategy and data set, with and without what keeps skip from taking over.

usage: python benchmarks/skip_collapse.py [--quick] [--strategy NAME]… [--data NAME]… [--remedies default|plain]
           [--cifar FILE.npz]

The space is fbnet-tiny (8 layers, 9 candidates), the table is made up (1 µs, and 20 ps per multiply-accumulate), one
seed. Data: scikit-learn's digits; glyphs, digits in 12 fonts as MNIST's in size; CIFAR-10 where --cifar names a file.
Each is searched without a target (the paper's loss) and with one in the middle of what the space reaches. "default" is
what --preset quick sets, with fewer epochs; "plain" the same without the remedies: --w-start random --skip-delay 0. The
strategies that run every candidate have the paper's τ, stretched to their epochs, and fewer of them.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from _glyphs import write_glyphs
from _report import Figure, report

from fblut.table import Lut, Metadata, Row
from fbsearch.beyond.exact import reachable
from fbsearch.costs import COSTS, AdditiveCost
from fbsearch.fbnet.settings import PRESETS, Settings
from fbsearch.jobs.search_job import run_search
from fbsearch.machine.process import before_search, before_torch
from fbspace.network import count_spec
from fbspace.space import Space, load_space

SPACE = "fbnet-tiny"
STRATEGIES = ("single-path", "mixture", "darts", "random", "evolution")
ALL_RUN = ("mixture", "darts")
REMEDIES = ("default", "plain")
PLAIN = {"w_start": "random", "skip_delay": 0.0, "w_sampling": "theta"}
MOST_SKIP = 0.5
"""Above this share of skip layers `fbsearch run` warns of a collapse."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer images and epochs")
    parser.add_argument("--strategy", action="append", choices=STRATEGIES, help="only these")
    parser.add_argument("--data", action="append", choices=["digits", "glyphs", "cifar"], help="only these")
    parser.add_argument("--remedies", action="append", choices=REMEDIES, help="only with these settings")
    parser.add_argument("--cifar", type=Path, default=Path("../shared/data/cifar10_jpegs.npz"), help="CIFAR-10, .npz")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    before_torch()
    torch.set_num_threads(arguments.threads)
    space = load_space(SPACE)
    table = made_up_table(space)
    with tempfile.TemporaryDirectory() as folder:
        sources = {"digits": "digits", "glyphs": str(write_glyphs(Path(folder) / "glyphs.npz", 2000, 500))}
        if arguments.cifar.exists():
            sources["cifar"] = str(arguments.cifar)
        chosen = {name: source for name, source in sources.items() if name in (arguments.data or sources)}
        runs: list[dict[str, Any]] = []
        strategies, remedies = arguments.strategy or STRATEGIES, arguments.remedies or REMEDIES
        for settings, row in plan(chosen, strategies, remedies, middle_ms(space, table), arguments.quick):
            before_search(one_path=settings.strategy not in ALL_RUN, masked=False)
            runs.append(row | search(settings, table, Path(folder) / str(len(runs))))
            print(json.dumps(runs[-1]), file=sys.stderr, flush=True)
    report("skip_collapse", figures(runs), quick=arguments.quick, data=list(chosen), runs=runs)


def plan(
    sources: dict[str, str], strategies: Iterable[str], remedies: Sequence[str], target_ms: float, quick: bool
) -> Iterable[tuple[Settings, dict[str, Any]]]:
    """Yield the settings of every run and what tells it from the others."""
    for strategy in strategies:
        for name, source in sources.items():
            for target in (None, target_ms):
                for used in remedies:
                    if used == "plain" and strategy in ("random", "evolution"):
                        continue  # no θ that skip could take over
                    values: dict[str, Any] = PRESETS["quick"] | {
                        "strategy": strategy,
                        "epochs": (5 if quick else 9) if strategy in ALL_RUN else (9 if quick else 20),
                        "limit": 600 if quick else 2000,
                        "evaluations": 20 if quick else 100,
                        "train_epochs": 0,
                    }
                    values |= PLAIN if used == "plain" else {}
                    values |= {"objectives": (("made-up", target),), "loss": "target" if target else "paper"}
                    row = {"strategy": strategy, "data": name, "target": target is not None, "remedies": used}
                    yield Settings(space=SPACE, data=source, **values), row


def search(settings: Settings, table: Lut, folder: Path) -> dict[str, Any]:
    """Run a search and return what came out."""
    started = time.process_time()
    provenance = run_search({"made-up": table}, settings, folder)[0].architecture.provenance
    last = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
    theta = last["objectives"]["made-up"]["theta"].values()
    best = min(provenance["candidates"], key=lambda candidate: candidate["loss"])
    return {
        "skip_layers": provenance["skip_layers"],
        "skip_probability": round(sum(p_skip(layer) for layer in theta) / len(theta), 3),
        "latency_us": round(best["cost"], 2),
        "w_cross_entropy": round(last["w_cross_entropy"], 3),
        "validation_accuracy_percent": provenance["validation_accuracy_percent"],
        "cpu_s": round(time.process_time() - started, 1),
        "choices": best["choices"],
    }


def p_skip(theta: dict[str, float]) -> float:
    """Return P_θ(skip) of a layer."""
    return torch.softmax(torch.tensor(list(theta.values())), 0)[list(theta).index("skip")].item()


def figures(runs: list[dict[str, Any]]) -> list[Figure]:
    """Return the largest share of skip layers, of each strategy and of all, and the mean accuracies."""
    layers = len(load_space(SPACE).layers)
    default, plain = ([run for run in runs if run["remedies"] == kind] for kind in ("default", "plain"))
    result = [
        Figure("largest_skip_share", max(run["skip_layers"] for run in default) / layers, "share", MOST_SKIP),
    ]
    if plain:
        result.append(Figure("largest_skip_share_plain", max(run["skip_layers"] for run in plain) / layers, "share"))
    for kind, rows in (("default", default), ("plain", plain)):
        if rows:
            result.append(Figure(f"largest_p_skip_{kind}", max(run["skip_probability"] for run in rows), "probability"))
        for name in dict.fromkeys(run["strategy"] for run in rows):
            of = [run for run in rows if run["strategy"] == name]
            result.append(Figure(f"{name}_skip_share_{kind}", max(r["skip_layers"] for r in of) / layers, "share"))
            accuracy = sum(r["validation_accuracy_percent"] for r in of) / len(of)
            result.append(Figure(f"{name}_validation_accuracy_{kind}", accuracy, "%"))
    return result


def made_up_table(space: Space) -> Lut:
    """Return a table linear in multiply-accumulates, so that results do not hang on a machine."""
    rows = {spec.key(): Row(spec, 1 + 20e-6 * count_spec(spec).macs, samples=9) for spec in space.operators()}
    metadata = Metadata(
        space=space.name, device="made-up", runtime="litert", runtime_version="1", precision="float32", threads=1
    )
    return Lut(metadata, rows)


def middle_ms(space: Space, table: Lut) -> float:
    """Return the geometric mean of the fastest and the slowest network's latency."""
    cost = COSTS.load("lut").build(space, table)
    assert isinstance(cost, AdditiveCost)
    least, greatest = reachable(cost)
    return round((least * greatest) ** 0.5 / 1000, 4)


if __name__ == "__main__":
    main()
