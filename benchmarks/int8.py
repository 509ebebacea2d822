"""What int8 gains over float32: networks and kinds of operators, in both runtimes, one thread, in one run.

usage: python benchmarks/int8.py [--quick]

FBNet-A, B and C, and the operators of FBNet-C, FBNetV2-F4 and MobileNetV3-Small, each as a float32 and an int8 model.
All models of a runtime take turns in random rounds; of a model's visits the median counts, and ratios of one kind are a
geometric mean. Beside it whether the numbers in an int8 model matter to its time: the same operators with ranges so
narrow that most saturates, with ranges so wide that little is left, with weights that are all zero, and with others.
Accuracy of a table in int8 is `lut_error.py --precision int8`, of networks `int8_accuracy.py`.
"""

import argparse
import contextlib
import math
import random
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from _report import Figure, report
from torch import nn

from fbagents.agent.client import AgentClient, Planned
from fbagents.agent.pieces import Content
from fbagents.connect import connect, load_profile
from fbexport.export import export_network
from fbexport.formats import format_of, load_format
from fbexport.quantization.calibration import plausible_ranges
from fbexport.quantization.scheme import Ranges
from fbexport.trace import trace
from fbprof.estimate.samples import usable_samples_us
from fbspace.architecture import load_architecture
from fbspace.blocks import build_block
from fbspace.opspec import OpSpec
from fbspace.weights import randomize

RUNTIMES = ("litert", "onnxruntime")
NETWORKS = ("fbnet-a", "fbnet-b", "fbnet-c")
OPERATORS_OF = ("fbnet-c", "fbnetv2-f4", "mobilenetv3-small")
RUNS, DROPPED = 4, 1
COPIES = 5
"""Where a model lies in memory makes it a percent or two faster or slower, so each is loaded several times."""
Shape = tuple[int, int, int, int]


def medians_us(runtime: str, models: Mapping[str, tuple[bytes, Shape]], rounds: int) -> dict[str, float]:
    """Return the median of every model's visits, which take turns in random rounds, in microseconds."""
    suffix = load_format(format_of(runtime)).suffix
    transport = connect(load_profile("local"))
    visits: dict[str, list[float]] = defaultdict(list)
    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.closing(transport),
        AgentClient(transport, 1) as agent,
    ):
        for number, (name, (content, shape)) in enumerate(models.items()):
            path = Path(folder) / f"{number}{suffix}"
            path.write_bytes(content)
            agent.load(name, transport.send(Content(path), agent.write), runtime, shape)
        for number in range(-1, rounds):  # round -1 warms up
            order = list(models)
            random.Random(number).shuffle(order)
            for visit in agent.run([Planned(name, RUNS) for name in order]):
                kept, _ = usable_samples_us(visit, DROPPED)
                if number >= 0 and kept:
                    visits[visit.model].append(statistics.median(kept))
    return {name: statistics.median(values) for name, values in visits.items()}


def kind_of(spec: OpSpec) -> str:
    """Return what operators are grouped by."""
    words = [spec.kind, spec.activation] if spec.kind in ("ir", "mbconv", "conv") else [spec.kind]
    words += ["grouped"] * (spec.groups > 1) + ["se"] * spec.squeeze_excite
    return "_".join(words)


def operators(quick: bool) -> list[OpSpec]:
    """Return the distinct operators of the networks, and of the space those with groups."""
    networks = [load_architecture(name) for name in OPERATORS_OF]
    every = dict.fromkeys(spec for network in networks for spec in network.specs())
    chosen = list(every)
    return chosen[::6] if quick else chosen


def block_of(spec: OpSpec) -> nn.Module:
    return randomize(build_block(spec), 0)


def speed(runtime: str, quick: bool) -> list[Figure]:
    """Return how long int8 takes beside float32."""
    model_format, rounds = format_of(runtime), 4 if quick else 15
    models: dict[str, tuple[bytes, Shape]] = {}
    export_ms = []
    specs = operators(quick)
    for spec in specs:
        for precision in ("float32", "int8"):
            block, started = block_of(spec), time.perf_counter()
            content = load_format(model_format).write(block, spec.input_shape, precision)
            if precision == "int8":
                export_ms.append(1e3 * (time.perf_counter() - started))
            models[f"{spec.key()} {precision}"] = content, spec.input_shape
    names = NETWORKS[:1] if quick else NETWORKS
    for name in names:
        for precision in ("float32", "int8"):
            network = load_architecture(name)
            models[f"{name} {precision}"] = (
                export_network(network, model_format, precision),
                network.load_space().input_shape,
            )
    us = medians_us(runtime, models, rounds)
    figures = [Figure(f"{runtime}_export_median", statistics.median(export_ms), "ms", 15)]
    for name in names:
        figures.append(Figure(f"{runtime}_{name}_float32", us[f"{name} float32"] / 1e3, "ms"))
        figures.append(Figure(f"{runtime}_{name}_int8", us[f"{name} int8"] / 1e3, "ms"))
        figures.append(Figure(f"{runtime}_{name}_int8_of_float32", us[f"{name} int8"] / us[f"{name} float32"], "x"))
    logs = defaultdict(list)
    for spec in specs:
        logs[kind_of(spec)].append(math.log(us[f"{spec.key()} int8"] / us[f"{spec.key()} float32"]))
    figures += [
        Figure(f"{runtime}_{kind}_int8_of_float32", math.exp(statistics.fmean(values)), "x")
        for kind, values in sorted(logs.items())
    ]
    return figures


def values_matter(runtime: str, quick: bool) -> list[Figure]:
    """Return how far apart an operator's latencies are by what numbers are in it."""
    model_format = load_format(format_of(runtime))
    specs = [
        OpSpec("ir", 24, 24, 56, 56, 3, 1, 6),
        OpSpec("ir", 112, 112, 14, 14, 5, 1, 6),
        OpSpec("mbconv", 40, 40, 28, 28, 5, 1, 3, 1, "hswish", True),
    ]
    models: dict[str, tuple[bytes, Shape]] = {}
    for spec in specs:
        block = block_of(spec)
        ranges = plausible_ranges(trace(block, spec.input_shape))
        zeros = block_of(spec)
        for parameter in zeros.parameters():
            torch.nn.init.zeros_(parameter)
        variants: dict[str, tuple[nn.Module, Ranges]] = {
            "plausible": (block, ranges),
            "saturated": (block, scaled(ranges, 1e-2)),
            "vanishing": (block, scaled(ranges, 30.0)),  # beyond, XNNPACK leaves a sum out
            "zero_weights": (zeros, ranges),
            "other_weights": (randomize(build_block(spec), 1), ranges),
        }
        for name, (module, of_values) in variants.items():
            models[f"{spec.key()} {name}"] = (
                model_format.write(module, spec.input_shape, "int8", of_values),
                spec.input_shape,
            )
        denormal = block_of(spec)
        for layer in denormal.modules():
            if isinstance(layer, nn.BatchNorm2d):
                assert layer.bias is not None
                layer.weight.data.mul_(1e-41)  # what follows of it is denormal, too
                layer.bias.data.zero_()
                torch.nn.init.zeros_(layer.running_mean)  # type: ignore[arg-type]
        for name, module in (("float32", block), ("denormal_float32", denormal)):
            models[f"{spec.key()} {name}"] = (
                model_format.write(module, spec.input_shape, "float32"),
                spec.input_shape,
            )
    copies = {f"{name} {i}": model for name, model in models.items() for i in range(COPIES)}
    medians = medians_us(runtime, copies, 4 if quick else 40)
    us = {name: statistics.fmean(medians[f"{name} {i}"] for i in range(COPIES)) for name in models}
    figures = []
    for name in ("saturated", "vanishing", "zero_weights", "other_weights"):
        ratios = [us[f"{spec.key()} {name}"] / us[f"{spec.key()} plausible"] for spec in specs]
        apart = 100 * abs(statistics.fmean(ratios) - 1)
        figures.append(Figure(f"{runtime}_{name}_differ", apart, "%", None if quick else 1.0))
    slower = [us[f"{spec.key()} denormal_float32"] / us[f"{spec.key()} float32"] for spec in specs]
    return [*figures, Figure(f"{runtime}_denormal_of_normal_float32", statistics.fmean(slower), "x")]


def scaled(ranges: Ranges, factor: float) -> Ranges:
    return {name: (low * factor, high * factor) for name, (low, high) in ranges.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few operators and rounds: whether it runs")
    parser.add_argument("--runtime", choices=RUNTIMES, action="append", help="only this runtime")
    options = parser.parse_args()
    chosen: Sequence[str] = options.runtime or RUNTIMES
    figures = []
    for runtime in chosen:
        figures += speed(runtime, options.quick) + values_matter(runtime, options.quick)
    report("int8", figures, quick=options.quick)


if __name__ == "__main__":
    main()
