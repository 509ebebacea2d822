"""How long an operator takes from its spec to a model file, over all operators of the 224 space.

usage: python benchmarks/export_speed.py [--quick]

Building the module and its random weights is part of the time; importing torch is not. Five passes over all
formats in turn; of each operator's five times the median counts.
"""

import argparse
import statistics
import time

from _report import Figure, report

from fbexport.export import export_spec
from fbspace.opspec import OpSpec
from fbspace.space import load_space

PASSES = 5
FORMATS = ("tflite", "onnx", "pte", "torchscript", "ncnn")


def export_ms(operators: list[OpSpec]) -> dict[str, list[float]]:
    """Return the milliseconds of each operator in each format, the median of passes in which formats take turns."""
    for name in FORMATS:
        export_spec(operators[0], name)  # imports the format
    passes = [{name: one_pass(operators, name) for name in FORMATS} for _ in range(PASSES)]
    return {
        name: [statistics.median(times) for times in zip(*(done[name] for done in passes), strict=True)]
        for name in FORMATS
    }


def one_pass(operators: list[OpSpec], format_name: str) -> list[float]:
    times = []
    for spec in operators:
        start = time.perf_counter()
        export_spec(spec, format_name)
        times.append((time.perf_counter() - start) * 1e3)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="every fifth operator; the total is scaled up")
    quick = parser.parse_args().quick
    every = load_space("fbnet").operators()
    operators = every[::5] if quick else every
    times = export_ms(operators)
    total_s = sum(times["tflite"] + times["onnx"]) / 1e3 * len(every) / len(operators)
    figures = [
        Figure("tflite_median", statistics.median(times["tflite"]), "ms", goal=10),
        Figure("onnx_median", statistics.median(times["onnx"]), "ms", goal=10),
        Figure("pte_median", statistics.median(times["pte"]), "ms", goal=8),
        Figure("torchscript_median", statistics.median(times["torchscript"]), "ms"),
        Figure("ncnn_median", statistics.median(times["ncnn"]), "ms", goal=5),
        Figure("tflite_and_onnx_total", total_s, "s", goal=3),
    ]
    report("export_speed", figures, quick=quick, operators=len(operators), passes=PASSES)


if __name__ == "__main__":
    main()
