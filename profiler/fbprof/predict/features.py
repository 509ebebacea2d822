"""Features: what a layer's latency depends on, counted on what it computes."""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from fbprof.predict.observed import Operation, observe
from fbspace.blocks import build_block
from fbspace.opspec import OpSpec

Floats = NDArray[np.float64]

FEATURES = (
    "convolutions", "other operations", "dense MACs", "grouped MACs", "depthwise MACs", "depthwise outputs", "weights",
    "values in", "values out",
)  # fmt: skip
"""What is counted; fully connected layers count as dense convolutions. Values go in and out of every operation."""


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """Operations that follow one another, those of an operator or of a part of a module.

    Two of one `pattern` differ only in channels and pixels, which are the `shapes`. `features` are as FEATURES.
    """

    name: str
    pattern: tuple[object, ...]
    shapes: tuple[object, ...]
    features: Floats


@functools.lru_cache(maxsize=1 << 14)
def layer_of(spec: OpSpec) -> Layer:
    """Return an operator as a layer. Raises UnknownNameError for its kind, ExportError where its block does not run."""
    with torch.device("meta"):
        block = build_block(spec)
    block = block.to_empty(device="cpu").eval()  # random weights would take longer than running it
    return as_layer(observe(block, spec.input_shape), spec.key())


def as_layer(operations: Sequence[Operation], name: str = "") -> Layer:
    """Return operations as a layer; without a name it is called by its module, and what that does."""
    return Layer(
        name or _name(operations),
        _pattern(operations),
        tuple((*(value.shape for value in each.inputs), each.output.shape, each.weight) for each in operations),
        np.sum([_features(each) for each in operations], axis=0, dtype=np.float64),
    )


def split(operations: Sequence[Operation]) -> list[list[Operation]]:
    """Return operations in runs: a convolution or fully connected layer with what follows until the next one."""
    runs: list[list[Operation]] = [[]]
    for operation in operations:
        if operation.is_layer and any(each.is_layer for each in runs[-1]):
            runs.append([])
        runs[-1].append(operation)
    return [run for run in runs if run]


def _name(operations: Sequence[Operation]) -> str:
    first = next((each for each in operations if each.is_layer), operations[0])
    what = first.name
    if first.name == "convolution":
        window = "x".join(map(str, first.weight[2:]))
        what = f"{window} {'depthwise ' if first.is_depthwise else ''}convolution"
    shapes = " to ".join("x".join(map(str, v.shape[1:])) for v in (first.inputs[0], operations[-1].output))
    return f"{first.source or 'the network'}: {what}, {shapes}"


def _features(operation: Operation) -> tuple[float, ...]:
    values_in = sum(math.prod(value.shape) for value in operation.inputs)
    values_out = math.prod(operation.output.shape)
    if not operation.is_layer:
        return 0, 1, 0, 0, 0, 0, 0, values_in, values_out
    is_depthwise = operation.is_depthwise
    is_grouped = operation.groups > 1 and not is_depthwise
    dense = operation.macs * (not is_depthwise and not is_grouped)
    depthwise = operation.macs * is_depthwise, values_out * is_depthwise
    return 1, 0, dense, operation.macs * is_grouped, *depthwise, math.prod(operation.weight), values_in, values_out


def _pattern(operations: Sequence[Operation]) -> tuple[object, ...]:
    """Return what operations do whatever the channels and pixels; ReLU and ReLU6 are one, they take the same time.

    A value is told by the number of the operation that makes it; those from outside count down from -1.
    """
    made_by = {operation.output.number: index for index, operation in enumerate(operations)}
    outside: dict[int, int] = {}
    told: list[object] = []
    for each in operations:
        numbers = [value.number for value in each.inputs]
        inputs = tuple(made_by[n] if n in made_by else outside.setdefault(n, ~len(outside)) for n in numbers)
        groups = "depthwise" if each.is_layer and each.is_depthwise else each.groups
        told.append((each.name, inputs, each.weight[2:], each.window, groups, each.has_relu))
    return tuple(told)
