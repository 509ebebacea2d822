"""Features: what a layer's latency depends on, counted on the graph that it is exported as."""

import dataclasses
import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from fbexport.graph import Activation, Conv, Linear, Node
from fbexport.trace import trace
from fbspace.blocks import build_block
from fbspace.opspec import OpSpec

Floats = NDArray[np.float64]

FEATURES = (
    "convolutions", "other operators", "dense MACs", "grouped MACs", "depthwise MACs", "depthwise outputs", "weights",
    "values in", "values out",
)  # fmt: skip
"""What is counted; fully connected layers count as dense convolutions. Values go in and out of every node."""


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """Nodes of a graph that follow one another, an operator's or those of a traced module.

    Two of one `pattern` differ only in channels and pixels, which are the `shapes`. `features` are as FEATURES.
    """

    name: str
    pattern: tuple[object, ...]
    shapes: tuple[object, ...]
    features: Floats


@functools.lru_cache(maxsize=1 << 14)
def layer_of(spec: OpSpec) -> Layer:
    """Return an operator as a layer. Raises UnknownNameError for its kind, ExportError where it cannot be traced."""
    with torch.device("meta"):
        block = build_block(spec)
    block = block.to_empty(device="cpu").eval()
    for tensor in block.state_dict().values():
        tensor.zero_()
    return as_layer(trace(block, spec.input_shape).nodes, spec.key())


def as_layer(nodes: Sequence[Node], name: str = "") -> Layer:
    """Return nodes as a layer; without a name it is called by the module that they come from, and what that does."""
    first = next((node for node in nodes if isinstance(node, Conv | Linear)), nodes[0])
    what = type(first).__name__
    if isinstance(first, Conv):
        what = f"{'x'.join(map(str, first.weight.shape[2:]))} {'depthwise ' if first.is_depthwise else ''}convolution"
    shapes = " to ".join("x".join(map(str, value.shape[1:])) for value in (first.inputs[0], nodes[-1].output))
    return Layer(
        name or f"{first.source or 'the network'}: {what.lower()}, {shapes}",
        _pattern(nodes),
        tuple((*(value.shape for value in node.inputs), node.output.shape, *_weights(node)) for node in nodes),
        np.sum([_features(node) for node in nodes], axis=0, dtype=np.float64),
    )


def split(nodes: Sequence[Node]) -> list[list[Node]]:
    """Return nodes in runs: a convolution or fully connected layer with what follows until the next one."""
    runs: list[list[Node]] = [[]]
    for node in nodes:
        if isinstance(node, Conv | Linear) and any(isinstance(each, Conv | Linear) for each in runs[-1]):
            runs.append([])
        runs[-1].append(node)
    return [run for run in runs if run]


def _features(node: Node) -> tuple[float, ...]:
    values_in, values_out = sum(_size(value.shape) for value in node.inputs), _size(node.output.shape)
    if not isinstance(node, Conv | Linear):
        return 0, 1, 0, 0, 0, 0, 0, values_in, values_out
    macs = node.weight.size * values_out / node.weight.shape[0]
    is_depthwise = isinstance(node, Conv) and node.is_depthwise
    is_grouped = isinstance(node, Conv) and node.groups > 1 and not is_depthwise
    dense = macs * (not is_depthwise and not is_grouped)
    depthwise = macs * is_depthwise, values_out * is_depthwise
    return 1, 0, dense, macs * is_grouped, *depthwise, node.weight.size, values_in, values_out


def _pattern(nodes: Sequence[Node]) -> tuple[object, ...]:
    """Return what nodes compute whatever their channels and pixels; ReLU and ReLU6 take the same time.

    A value is told by the number of the node that makes it; those from outside count down from -1.
    """
    number = {node.output.name: index for index, node in enumerate(nodes)}
    outside: dict[str, int] = {}
    told: list[object] = []
    for node in nodes:
        names = [value.name for value in node.inputs]
        inputs = [number[name] if name in number else outside.setdefault(name, ~len(outside)) for name in names]
        details: tuple[object, ...] = ()
        if isinstance(node, Conv):
            groups = "depthwise" if node.is_depthwise else node.groups
            window = node.weight.shape[2:], node.stride, node.padding, node.dilation
            details = *window, groups, node.activation != "none"
        elif isinstance(node, Activation):
            details = (node.function.replace("relu6", "relu"),)
        else:
            own = [field.name for field in dataclasses.fields(node)]
            details = tuple(getattr(node, name) for name in own if name in ("operation", "groups", "keep_dims"))
        told.append((type(node).__name__, tuple(inputs), *details))
    return tuple(told)


def _weights(node: Node) -> tuple[object, ...]:
    return (node.weight.shape,) if isinstance(node, Conv | Linear) else ()


def _size(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape, dtype=np.int64))
