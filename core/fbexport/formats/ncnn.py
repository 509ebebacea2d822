"""ncnn: a `.param` text and `.bin` weights, layer by layer, both in one file (`fbexport.runtimes._ncnn_file`).

int8 is symmetric, and a scale is 127 / largest: the inverse of everybody else's.
"""

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fbexport.formats import Format
from fbexport.formats._float16 import in_float16
from fbexport.formats._ncnn_layers import SIXTH, Layers
from fbexport.formats._ncnn_model import Dims, Params, array_of, tagged, untagged
from fbexport.graph import Activation, Array, Conv, ConvTranspose, Graph, Linear, Node, Value
from fbexport.quantization.quantized import QuantizedGraph
from fbexport.quantization.scheme import QMAX, QMIN, WEIGHT_MAX
from fbexport.runtimes._ncnn_file import NcnnFile

_FUSED: dict[str, Params] = {
    "relu": [(9, 1)],
    "relu6": [(9, 3), (-23310, array_of("0.0", "6.0"))],
    "sigmoid": [(9, 4)],
    "hswish": [(9, 6), (-23310, array_of(SIXTH, "0.5"))],
}
"""Functions that convolutions and fully connected layers apply themselves."""


class Ncnn(Format):
    """ncnn models: `input` of C, H, W, `output` of C, H, W or C; of several images one is run after the other.

    float32 is computed in float32. A float16 model has weights half as large and is run as ncnn does by default: in
    float16 where the processor can, else in float32. In an int8 model convolutions and fully connected layers are int8,
    but for convolutions in groups.
    """

    suffix = ".ncnn"
    precisions = ("float32", "float16", "int8")

    def parts(self, content: bytes) -> dict[str, bytes]:
        """Return the `.param` and the `.bin` file, as ncnn's users have them."""
        file = NcnnFile.unpack(content)
        return {".param": file.param.encode(), ".bin": file.weights}

    def encode(self, graph: Graph, outputs: Sequence[Value], precision: str, quantized: QuantizedGraph | None) -> bytes:
        """Return an ncnn model."""
        model = _Model(graph, outputs, precision, quantized)
        for node in graph.nodes:
            model.add(node)
        return model.finish(precision).pack()


class _Model(Layers):
    """Writes what has weights; `quantized` is what int8 numbers stand for."""

    def __init__(
        self, graph: Graph, outputs: Sequence[Value], precision: str, quantized: QuantizedGraph | None
    ) -> None:
        super().__init__(graph, outputs)
        self.precision, self.quantized = precision, quantized
        readers = [(value, node) for node in graph.nodes for value in node.inputs]
        once = Counter([value for value, _ in readers]) + Counter(outputs)
        self.only_reader = {value: node for value, node in readers if once[value] == 1}
        self.fused: set[Node] = set()

    def add(self, node: Node) -> None:
        """Append the layers of one operator."""
        if node in self.fused:
            return
        self.begin(node)
        match node:
            case Conv():
                self.conv(node)
            case ConvTranspose():
                self.conv_transpose(node)
            case Linear():
                *rows, inputs = self.dims(node.inputs[0])
                whole = (math.prod(rows),) if rows else ()
                self.weighted("InnerProduct", node, (*whole, inputs), (*whole, len(node.bias)), [])
            case _:
                self.more(node)

    def conv(self, node: Conv) -> None:
        """Append a convolution; of a single pixel's channels it is a fully connected layer."""
        kernel = node.weight.shape[2:]
        own, made = self.dims(node.inputs[0]), self.dims(node.output)
        if self.lying(node.inputs[0]) == own[:1] and (*kernel, node.groups, *node.padding) == (1, 1, 1, 0, 0):
            self.weighted("InnerProduct", node, own[:1], made[:1], [])
            return
        kind, groups = ("ConvolutionDepthWise", [(7, node.groups)]) if node.groups > 1 else ("Convolution", [])
        params = [*_window(node), (4, node.padding[1]), (14, node.padding[0]), *groups]
        self.weighted(kind, node, own, made, params)

    def conv_transpose(self, node: ConvTranspose) -> None:
        """Append a transposed convolution, whose weights have outputs first as others have."""
        inputs, outputs, *kernel = node.weight.shape
        weight = node.weight.reshape(node.groups, inputs // node.groups, outputs, *kernel).swapaxes(1, 2)
        (ph, pw), (bottom, right) = node.padding, node.extra
        params = [
            (0, len(node.bias)),
            *_window(node),
            (4, pw),
            (14, ph),
            (18, right),
            (19, bottom),
            (5, 1),
            (6, weight.size),
        ]
        kind = "Deconvolution"
        if node.groups > 1:
            kind, params = "DeconvolutionDepthWise", [*params, (7, node.groups)]
        weights = self.tagged(node, weight) + untagged(node.bias)
        self.put(self.step(kind, [self.read(node.inputs[0])], self.dims(node.output), params, weights))

    def weighted(self, kind: str, node: Conv | Linear, lying: Dims, made: Dims, params: Params) -> None:
        """Append a layer with weights, and with the function that follows where it can apply that."""
        bias_term, size = (1, 2) if kind == "InnerProduct" else (5, 6)
        function: str = node.activation if isinstance(node, Conv) else "none"
        output = node.output
        reader = self.only_reader.get(output)
        if function == "none" and isinstance(reader, Activation) and reader.function in _FUSED:
            function, output = reader.function, reader.output
            self.fused.add(reader)
        params = [(0, len(node.bias)), *params, (bias_term, 1), (size, node.weight.size), *_FUSED.get(function, ())]
        if self.quantized is None or not _has_int8(node):
            weights = self.tagged(node, node.weight) + untagged(node.bias)
        else:
            weight, scales = _of_weights(node.weight.reshape(len(node.weight), -1))
            weights = tagged(weight) + untagged(node.bias, scales, self.scale(node.inputs[0]))
            reader = self.only_reader.get(output)
            requantized = kind != "InnerProduct" and isinstance(reader, Conv) and _has_int8(reader)
            params.append((8, 101 if requantized else 1))
            weights += untagged(self.scale(output)) if requantized else b""
        self.put(self.step(kind, [self.read(node.inputs[0], lying)], made, params, weights), output)

    def tagged(self, node: Node, weight: Array) -> bytes:
        """Return weights in the model's precision."""
        return tagged(in_float16(weight, node) if self.precision == "float16" else weight)

    def scale(self, value: Value) -> NDArray[np.float32]:
        """Return the scale of a value's int8 numbers, as ncnn has it."""
        assert self.quantized is not None
        found = self.quantized.of(value)
        largest = found.scale * max(QMAX - found.zero_point, found.zero_point - QMIN)
        return np.array([WEIGHT_MAX / largest], np.float32)


def _window(node: Conv | ConvTranspose) -> list[tuple[int, object]]:
    """Return the parameters of a kernel: its size, its dilation and its stride."""
    sizes = zip((1, 2, 3), (node.weight.shape[2:], node.dilation, node.stride), strict=True)
    return [each for key, (h, w) in sizes for each in ((key, w), (key + 10, h))]


def _has_int8(node: Conv | Linear) -> bool:
    """Whether an operator is written in int8.

    ncnn 1.0.20261020 computes nonsense of int8 convolutions in groups of 8 outputs each, on x86: these stay in float.
    """
    return isinstance(node, Linear) or node.groups in (1, len(node.weight))


def _of_weights(rows: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Return int8 weights and their scales, one for each output channel."""
    largest = np.abs(rows).max(axis=1)
    scales = (WEIGHT_MAX / np.where(largest == 0, 1, largest)).astype(np.float32)
    return np.clip(np.rint(rows * scales[:, None]), -WEIGHT_MAX, WEIGHT_MAX).astype(np.int8), scales
