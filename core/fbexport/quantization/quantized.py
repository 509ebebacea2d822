"""QuantizedGraph: a graph whose values have int8 numbers, under the rules that runtimes make."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from fbexport.errors import ExportError, module_name
from fbexport.graph import (
    Activation,
    Binary,
    Constant,
    Conv,
    Expand,
    Graph,
    Linear,
    Pad,
    Pool,
    Reshape,
    Resize,
    Shuffle,
    Slice,
    Softmax,
    Transpose,
    Value,
)  # fmt: skip
from fbexport.quantization import scheme
from fbexport.quantization.scheme import Float32, Int8, Int32, Quantization, Ranges

HSIGMOID_ENDS = 3.0
"""Beyond, a hard sigmoid is constant, so what only such read needs no wider range."""


@dataclass(frozen=True, slots=True)
class Parameters:
    """Int8 weights of a convolution or a fully connected layer, its int32 bias, and the scales of each.

    Scales are one for each output channel, or a single one.
    """

    weight: Int8
    weight_scale: Float32
    bias: Int32
    bias_scale: Float32


@dataclass(frozen=True, slots=True)
class QuantizedGraph:
    """A graph and the quantisation of each of its values, by name; of constants where it is not that of their range."""

    graph: Graph
    values: Mapping[str, Quantization]

    def of(self, value: Value) -> Quantization:
        """Return a value's quantisation."""
        if isinstance(value, Constant):
            return self.values.get(value.name) or scheme.of_array(value.array)
        return self.values[value.name]

    def parameters(self, node: Conv | Linear) -> Parameters:
        """Return int8 weights: a scale for each channel of a convolution, a single one for a fully connected layer."""
        scale = self.of(node.inputs[0]).scale
        weight, weight_scale = scheme.of_weights(node.weight, node.bias, scale, per_channel=isinstance(node, Conv))
        bias_scale = (scale * weight_scale.astype(np.float64)).astype(np.float32)
        return Parameters(weight, weight_scale, scheme.of_bias(node.bias, bias_scale), bias_scale)


def quantize(graph: Graph, ranges: Ranges) -> QuantizedGraph:
    """Return the int8 numbers of a graph's values. Raises ExportError where a value has no range."""
    values: dict[str, Quantization] = {}
    gates = gated(graph)
    for value in (graph.input, *(node.output for node in graph.nodes)):
        if value.name not in ranges:
            raise ExportError("the ranges are not this network's: calibrate the network itself")
        low, high = ranges[value.name]
        if value in gates:
            low, high = max(low, -HSIGMOID_ENDS), min(high, HSIGMOID_ENDS)
        values[value.name] = scheme.of_range(low, high)
    for node in graph.nodes:
        match node:
            case Shuffle() | Reshape() | Transpose() | Slice() | Expand() | Pad() | Pool() | Resize():  # numbers stay
                values[node.output.name] = values[node.inputs[0].name]
            case Binary(operation="add" | "sub"):
                values |= _summed(node, values)
            case Activation(function="hsigmoid"):
                values[node.output.name] = scheme.UNIT
            case Activation(function="tanh"):
                values[node.output.name] = scheme.TANH
            case Activation(function="sigmoid") | Softmax():
                values[node.output.name] = scheme.SIGMOID
            case Conv() | Linear() if not (np.isfinite(node.weight).all() and np.isfinite(node.bias).all()):
                where = f"{type(node).__name__} of {module_name(node.source)}"
                raise ExportError(f"{where} has weights that are not finite")
    return QuantizedGraph(graph, values)


def _summed(node: Binary, values: Mapping[str, Quantization]) -> dict[str, Quantization]:
    """Return an output whose steps are not too small for those of the summands, and zeros in steps of that."""
    output, zeros = values[node.output.name], []
    scale = output.scale
    for value in node.inputs:
        if isinstance(value, Constant) and not value.array.any():
            zeros.append(value.name)
            continue
        summand = scheme.of_array(value.array) if isinstance(value, Constant) else values[value.name]
        scale = max(scale, summand.scale / scheme.SCALE_RATIO)
    return {node.output.name: Quantization(scale, output.zero_point)} | dict.fromkeys(zeros, Quantization(scale, 0))


def gated(graph: Graph) -> set[Value]:
    """Return the values that hard sigmoids alone read."""
    read: dict[Value, bool] = {}
    for node in graph.nodes:
        is_gate = isinstance(node, Activation) and node.function == "hsigmoid"
        for value in node.inputs:
            read[value] = read.get(value, True) and is_gate
    return {value for value, by_gates_alone in read.items() if by_gates_alone}
