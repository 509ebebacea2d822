"""Whether it pays to search under an int8 table: networks found under a float32 and an int8 table, measured in int8.

usage: python benchmarks/int8_search.py [--quick] [--data FILE] [--out FOLDER]

The space fbnet-tiny is measured here in both precisions (LiteRT, one thread), its supernet is trained on uniform paths
on CIFAR-10, and 400 random networks are judged by its weights on the validation images: their predicted accuracy. For a
required accuracy, the network found under a table is the fastest by that table of those that reach it. Both are then
measured in int8, taking turns. Reported: the int8 latency of the network found under the int8 table over that of the
one found under the float32 table, by required accuracy and as a geometric mean, and how alike both tables order the
networks. Finished parts are kept in --out, and a run that was killed goes on there.
"""

import argparse
import math
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from _report import Figure, has_images, report
from int8 import medians_us
from search_quality import DATA, PRESETS, Bench, check_same, made_up_table

from fbexport.export import export_chain
from fbexport.formats import format_of
from fblut.reading import read_lut
from fblut.statistics import spearman
from fblut.table import Lut
from fbsearch.fbnet.derive import evaluate_inherited
from fbsearch.images.data import load_data
from fbsearch.machine.checkpoint import RunFolder
from fbsearch.machine.compute import Compute
from fbsearch.machine.process import before_torch
from fbsearch.machine.seeds import generator_of
from fbspace.opspec import OpSpec
from fbspace.space import load_space

SPACE, RUNTIME = "fbnet-tiny", "litert"
PRECISIONS = ("float32", "int8")
REQUIRED = (0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98)
"""Shares of the networks that are less accurate than is asked for."""


def measured_table(precision: str, out: Path, quick: bool) -> Lut:
    """Return the table of this machine, measured unless it is there."""
    path = out / f"{precision}.csv"
    if not path.exists():
        command = [sys.executable, "-m", "fbprof", "measure", "--space", SPACE, "--runtime", RUNTIME]
        command += ["--precision", precision, "-o", str(path), "--max-time", "4"]
        subprocess.run([*command, *(["--rounds", "3"] if quick else [])], check=True, stdout=subprocess.DEVNULL)
    return read_lut(path)


def judged(bench: Bench, count: int) -> dict[str, Any]:
    """Train the supernet and return random networks with the accuracy that it predicts for them."""
    search = bench.open("random", 0)
    folder = RunFolder(bench.out / "supernet", {"bench": "int8_search"}, {})
    search.run(folder)
    generator = generator_of(0, "int8_search")
    layers = [len(layer.candidates) for layer in bench.space.layers]
    drawn: dict[tuple[int, ...], None] = {}
    while len(drawn) < count:
        drawn[tuple(int(torch.randint(n, (), generator=generator)) for n in layers)] = None
    found = []
    for choices in drawn:
        candidate = evaluate_inherited(search, search.objectives[0], choices, bench.data.validation)
        found.append({"choices": candidate.choices, "accuracy_percent": candidate.accuracy_percent})
    return {"networks": found}


def figures_of(networks: list[dict[str, Any]], tables: dict[str, Lut], bench: Bench, quick: bool) -> list[Figure]:
    """Return the figures, of which the latencies are measured here and now."""
    specs: list[tuple[OpSpec, ...]] = [tuple(bench.space.specs(each["choices"])) for each in networks]
    latency = {name: [lut.predict_us(each) for each in specs] for name, lut in tables.items()}
    accuracy = [each["accuracy_percent"] for each in networks]
    pairs = {}
    for share in REQUIRED:
        least = sorted(accuracy)[min(int(share * len(accuracy)), len(accuracy) - 1)]
        able = [i for i, percent in enumerate(accuracy) if percent >= least]
        pairs[share] = least, tuple(min(able, key=latency[name].__getitem__) for name in PRECISIONS)
    chosen = sorted({number for _, pair in pairs.values() for number in pair})
    models = {
        str(number): (export_chain(specs[number], format_of(RUNTIME), "int8"), specs[number][0].input_shape)
        for number in chosen
    }
    us = medians_us(RUNTIME, models, 5 if quick else 60)
    ratios = [us[str(by_int8)] / us[str(by_float)] for _, (by_float, by_int8) in pairs.values()]
    different = sum(by_float != by_int8 for _, (by_float, by_int8) in pairs.values())
    mean = math.exp(statistics.fmean(map(math.log, ratios)))
    figures = [
        Figure("int8_latency_of_networks_by_int8_to_by_float32", mean, "x", None if quick else 1.0),
        Figure("networks_that_differ", different / len(pairs), "share"),
        Figure("order_of_both_tables", spearman(latency["float32"], latency["int8"]) or 0.0, "ρ"),
    ]
    for (share, (least, _)), ratio in zip(pairs.items(), ratios, strict=True):
        figures.append(Figure(f"ratio_where_{round(100 * share)}_percent_are_worse", ratio, "x"))
        figures.append(Figure(f"accuracy_where_{round(100 * share)}_percent_are_worse", least, "%"))
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few networks and steps; its figures mean nothing")
    parser.add_argument("--data", type=Path, default=DATA, help="CIFAR-10 as an .npz file")
    parser.add_argument("--out", type=Path, help="folder of finished parts; runs/int8_search unless given")
    options = parser.parse_args()
    before_torch()
    if not has_images("int8_search", options.data):
        return
    preset, space = PRESETS["quick" if options.quick else "cpu"], load_space(SPACE)
    out = options.out or Path("runs") / ("int8_search" + ("-quick" if options.quick else ""))
    out.mkdir(parents=True, exist_ok=True)
    data = load_data(str(options.data), space.input_shape, 0, preset.limit)
    check_same(out, {"preset": repr(preset), "images": data.fingerprint})
    bench = Bench(preset, data, space, made_up_table(space), Compute(), out)
    tables = {precision: measured_table(precision, out, options.quick) for precision in PRECISIONS}
    networks = bench.part("networks", lambda: judged(bench, 20 if options.quick else 400))["networks"]
    report("int8_search", figures_of(networks, tables, bench, options.quick), quick=options.quick)


if __name__ == "__main__":
    main()
