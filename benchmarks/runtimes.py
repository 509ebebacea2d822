"""How long published networks take in every runtime, and whether our .pte files are as fast as the official exporter's.

usage: python benchmarks/runtimes.py [--quick] [--max-time MINUTES]

One `fbprof profile` a network holds its files of all formats beside each other: one thread, rounds in turn, drift taken
out. Ratios are to LiteRT's float32. Our .pte file and that of ExecuTorch's own exporter are compared by `fbprof ab`,
where what the exporter needs is installed: pip install --no-deps ruamel.yaml tabulate torchao.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch
from _report import Figure, report

from fbexport.formats import load_format
from fbexport.runtimes import RUNTIMES as KNOWN_RUNTIMES
from fbprof.models.result import read_result
from fbspace.architecture import load_architecture
from fbspace.network import build_network
from fbspace.weights import randomize

NETWORKS = ("fbnet-a", "fbnet-b", "fbnet-c", "mobilenetv3-large", "mobilenetv3-small")
RUNTIMES = ("litert", "onnxruntime", "executorch", "ncnn", "torch")
MAX_TIME_MIN = 3.0
OFF_PERCENT = 2.0


def fbprof(*arguments: str) -> str:
    """Run a command in a process of its own and return what it prints."""
    argv = [sys.executable, "-m", "fbprof", *arguments]
    return subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True).stdout


def files(name: str, folder: Path) -> dict[str, Path]:
    """Export a network for every runtime and precision."""
    found = {}
    for runtime in RUNTIMES:
        written = load_format(KNOWN_RUNTIMES.find(runtime).format)
        for precision in sorted({"float32", "int8"} & {*written.precisions}):
            path = folder / f"{name}-{precision}{written.suffix}"
            fbprof("export", name, "--format", written.name, "--precision", precision, "-o", str(path))
            found[f"{runtime}_{precision}"] = path
    return found


def official_exporter() -> tuple[Any, Any] | None:
    """Return ExecuTorch's exporter and its partitioner for XNNPACK; None where a package that they need lacks."""
    try:
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower
    except ImportError as error:
        print(f"the official exporter is left out: {error}", file=sys.stderr)
        return None
    return to_edge_transform_and_lower, XnnpackPartitioner


def by_official_exporter(exporter: tuple[Any, Any], name: str, path: Path) -> None:
    """Write the .pte file that ExecuTorch's exporter makes of a network, all for XNNPACK."""
    lower, partitioner = exporter
    architecture = load_architecture(name)
    module = randomize(build_network(architecture), 0)
    example = torch.zeros(architecture.load_space().input_shape).to(memory_format=torch.channels_last)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(module, (example,))
        path.write_bytes(lower(program, partitioner=[partitioner()]).to_executorch().buffer)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one network, few rounds")
    parser.add_argument("--max-time", type=float, default=MAX_TIME_MIN, help="minutes for each network's files")
    options = parser.parse_args()
    minutes = str(0.5 if options.quick else options.max_time)
    names = NETWORKS[-1:] if options.quick else NETWORKS
    exporter, figures, off = official_exporter(), [], []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for name in names:
            paths = files(name, folder)
            result = folder / f"{name}.json"
            fbprof("profile", *map(str, paths.values()), "--max-time", minutes, "-o", str(result))
            models = read_result(result).models
            took_us = {key: each.latency_us for key, each in zip(paths, models, strict=True)}
            base_us = took_us["litert_float32"] or float("nan")
            for key, us in took_us.items():
                figures.append(Figure(f"{name}_{key}", (us or float("nan")) / 1e3, "ms"))
                figures.append(Figure(f"{name}_{key}_over_litert", (us or float("nan")) / base_us, ""))
            print(f"{name}: {took_us}", file=sys.stderr)
            if exporter is not None:
                official, limit = folder / f"{name}-official.pte", ["--max-time", minutes, "--json"]
                by_official_exporter(exporter, name, official)
                answer = json.loads(fbprof("ab", str(official), str(paths["executorch_float32"]), *limit))
                off.append(abs(answer["percent"]))
                figures.append(Figure(f"{name}_pte_over_official", answer["percent"], "%"))
                print(f".pte {answer['percent']:+.2f} % {answer['ci_percent']}", file=sys.stderr)
    if off:
        figures.append(Figure("pte_off_official_median", statistics.median(off), "%", OFF_PERCENT))
        figures.append(Figure("pte_off_official_at_most", max(off), "%"))
    report("runtimes", figures, quick=options.quick, networks=list(names), max_time_min=float(minutes))


if __name__ == "__main__":
    main()
