"""Whether `fbprof profile --layers` says where the time goes, as the runtimes' own profilers see it.

usage: python benchmarks/layers.py [--quick] [--networks NAME ...]

Published networks in TFLite and in ONNX. Layers are shared out so that they add up to the whole; how far the parts are
from it before that, without the cost of calls, is printed beside it. Ranks are compared kernel by kernel, where the
runtime's trace names the node (ONNX) or lists a kernel of the same kind in the same order (LiteRT).
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from _report import Figure, report

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from fblut.statistics import spearman
from fbprof.models.result import Profiled, read_result
from peers.profilers import LiteRtProfiler, by_onnxruntime, paired

NETWORKS = ("fbnet-a", "fbnet-c", "mobilenetv2", "mobilenetv3-large", "fbnetv2-f1")
RUNS = 100


def profiled(path: Path, options: list[str]) -> Profiled:
    """Run fbprof profile --layers in a process of its own."""
    result = path.with_suffix(f"{path.suffix}.json")
    argv = [sys.executable, "-m", "fbprof", "profile", str(path), "--layers", "--fresh", *options, "-o", str(result)]
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
    return read_result(result).models[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one network, few rounds")
    parser.add_argument("--networks", nargs="+")
    options = parser.parse_args()
    names = options.networks or (NETWORKS[:1] if options.quick else NETWORKS)
    few = ["--rounds", "12", "--max-time", "1"] if options.quick else ["--rounds", "80", "--max-time", "4"]
    sums, alone, ranks, matched = [], [], {"onnxruntime": [], "litert": []}, []
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            for suffix in ("tflite", "onnx"):
                path = Path(folder) / f"{name}.{suffix}"
                argv = [sys.executable, "-m", "fbprof", "export", name, "--format", suffix, "-o", str(path)]
                subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
                model = profiled(path, few)
                whole_us = model.latency_us or float("nan")
                sums.append(100 * abs(sum(layer.latency_us or 0 for layer in model.layers) / whole_us - 1))
                alone.append(100 * (sum(layer.alone_us or 0 for layer in model.layers) / whole_us - 1))
                runs = 10 if options.quick else RUNS
                kernels = by_onnxruntime(path, runs) if suffix == "onnx" else LiteRtProfiler(path).kernels(runs)
                pairs = paired(path, model, kernels)
                rank = spearman([layer.latency_us or 0 for layer, _ in pairs], [us for _, us in pairs]) or float("nan")
                ranks[model.runtime].append(rank)
                matched.append(100 * len(pairs) / len(model.layers))
                print(f"{path.name}: {model.layers_note}; rank correlation {rank:.3f} over {len(pairs)} of "
                      f"{len(model.layers)}", file=sys.stderr)  # fmt: skip
    figures = [
        Figure("sum_off_the_whole_at_most", max(sums), "%", 3.0),
        Figure("alone_off_the_whole_median", float(np.median(alone)), "%"),
        Figure("spearman_onnxruntime_median", statistics.median(ranks["onnxruntime"]), "ρ", 0.95, "at_least"),
        Figure("spearman_onnxruntime_least", min(ranks["onnxruntime"]), "ρ"),
        Figure("spearman_litert_median", statistics.median(ranks["litert"]), "ρ", 0.9, "at_least"),
        Figure("spearman_litert_least", min(ranks["litert"]), "ρ"),
        Figure("layers_found_in_the_trace_least", min(matched), "%", 80.0, "at_least"),
    ]
    report("layers", figures, quick=options.quick, networks=list(names))


if __name__ == "__main__":
    main()
