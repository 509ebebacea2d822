"""How large the installation is, and how soon after it a model file has been measured.

usage: python benchmarks/install_size.py [--quick]

A wheel of this checkout is built and installed into a new virtual environment, with the versions of constraints.txt.
Sizes are what the installation adds on the disk, with what Python compiles of it. `--help` is timed 5 times after one
warm-up, and the first `fbprof profile` of a small ONNX file with its default options from the start of the process to
its end. At last all extras are installed; with --quick they are not.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

import numpy as np
from _report import Figure, report
from onnx import TensorProto, helper, numpy_helper, save

ROOT = Path(__file__).parents[1]
CONSTRAINTS = ROOT / "constraints.txt"
HELPED = 5


def size_mb(folder: Path) -> float:
    """Return what the files of a folder take on the disk."""
    return sum(path.lstat().st_blocks * 512 for path in folder.rglob("*")) / 1e6


def timed(command: list[str], folder: Path) -> float:
    """Return the seconds a command takes; what it says goes to stderr."""
    start = time.perf_counter()
    subprocess.run(command, cwd=folder, stdout=sys.stderr, check=True)
    return time.perf_counter() - start


def small_onnx(path: Path) -> None:
    """Write a convolution and a ReLU of 32x32 pixels."""
    weight = numpy_helper.from_array(np.random.RandomState(0).randn(8, 3, 3, 3).astype(np.float32), "weight")
    nodes = [
        helper.make_node("Conv", ["input", "weight"], ["filtered"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["filtered"], ["output"]),
    ]
    inputs = [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, 32, 32])]
    outputs = [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, 8, 32, 32])]
    graph = helper.make_graph(nodes, "small", inputs, outputs, [weight])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="without all extras")
    quick = parser.parse_args().quick
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        work = folder / "work"
        work.mkdir()
        small_onnx(work / "small.onnx")
        venv.create(folder / "venv", with_pip=True)
        (packages,) = folder.glob("venv/lib/python*/site-packages")
        pip = [str(folder / "venv" / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--quiet"]
        timed([*pip, "wheel", "--no-deps", "--wheel-dir", str(folder), str(ROOT)], work)
        (wheel,) = folder.glob("*.whl")
        install = [*pip, "install", "--constraint", str(CONSTRAINTS)]
        before_mb = size_mb(packages)
        install_s = timed([*install, str(wheel)], work)
        base_mb = size_mb(packages) - before_mb
        tool = str(folder / "venv" / "bin" / "fbprof")
        first_s = timed([tool, "profile", "small.onnx"], work)
        help_s = statistics.median([timed([tool, "--help"], work) for _ in range(HELPED + 1)][1:])
        figures = [
            Figure("base", base_mb, "MB", goal=350),
            Figure("help", help_s, "s", goal=0.3),
            Figure("first_profile", first_s, "s", goal=10),
            Figure("install", install_s, "s"),
        ]
        if not quick:
            timed([*install, f"fbnet-lab[all] @ {wheel.as_uri()}"], work)
            figures.append(Figure("all", size_mb(packages) - before_mb, "MB"))
    report("install_size", figures, quick=quick)


if __name__ == "__main__":
    main()
