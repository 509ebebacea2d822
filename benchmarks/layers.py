"""Whether `fbprof profile --layers` says where the time goes, as the runtimes' own profilers see it.

usage: python benchmarks/layers.py [--quick] [--networks NAME ...]

Published networks in TFLite and in ONNX. Layers are shared out so that they add up to the whole; how far the parts are
from it before that, without the cost of calls, is printed beside it. Ranks are compared kernel by kernel, where the
runtime's trace names the node (ONNX) or lists a kernel of the same kind in the same order (LiteRT).
"""

import argparse
import difflib
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from _profilers import Kernels, LiteRtProfiler, by_onnxruntime
from _report import Figure, report

from fblut.correlation import spearman
from fbmodel.model import open_model
from fbmodel.parts import separable
from fbprof.models.result import Layer, Profiled, read_result

NETWORKS = ("fbnet-a", "fbnet-c", "mobilenetv2", "mobilenetv3-large", "fbnetv2-f1")
RUNS = 100


def profiled(path: Path, options: list[str]) -> Profiled:
    """Run fbprof profile --layers in a process of its own."""
    result = path.with_suffix(f"{path.suffix}.json")
    argv = [sys.executable, "-m", "fbprof", "profile", str(path), "--layers", "--fresh", *options, "-o", str(result)]
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
    return read_result(result).models[0]


def paired(path: Path, model: Profiled, kernels: Kernels) -> list[tuple[Layer, float]]:
    """Return layers with what the runtime's profiler says of the same kernel."""
    if model.runtime == "onnxruntime":
        file = open_model(path)
        nodes = file.nodes()
        names = [{nodes[i].name for i in part} for part in separable(file)]
        taken = {name.removesuffix("_nchwc"): us for name, us in kernels}
        sums = [sum(taken.get(name, 0.0) for name in part) for part in names]
        return [(layer, us) for layer, us in zip(model.layers, sums, strict=True) if us]
    ours = [_kind(layer.kind) for layer in model.layers]
    theirs = [_kind(name) for name, _ in kernels]
    blocks = difflib.SequenceMatcher(None, ours, theirs, autojunk=False).get_matching_blocks()
    return [(model.layers[b.a + i], kernels[b.b + i][1]) for b in blocks for i in range(b.size)]


def _kind(text: str) -> str:
    """Return what a kernel is, by the names that the file and XNNPACK have for it."""
    kinds = {
        "depthwise": ("DEPTHWISE", "DWConv"),
        "conv": ("CONV", "Convolution", "Fully Connected", "FULLY"),
        "add": ("ADD", "Add"),
        "mul": ("MUL", "Multiply"),
        "pool": ("MEAN", "POOL", "Mean", "Pooling", "Reduce"),
    }
    return next((kind for kind, words in kinds.items() if any(word in text for word in words)), text)


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
