"""ncnn: a `.param` text and `.bin` weights, layer by layer, both in one file (`fbexport.runtimes._ncnn_file`).

A value of ncnn has C, H, W and no N; what follows a global mean has C alone. A value that is read twice goes through a
Split. int8 is symmetric, and a scale is 127 / largest: the inverse of everybody else's.
"""

import struct
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fbexport.formats import Format, unknown_operator
from fbexport.formats._first_kinds import check_first_kinds
from fbexport.formats._float16 import in_float16
from fbexport.graph import Activation, Binary, Conv, Function, Graph, Linear, Mean, Node, Shuffle, Value
from fbexport.quantization.quantized import QuantizedGraph
from fbexport.quantization.scheme import QMAX, QMIN, WEIGHT_MAX
from fbexport.runtimes._ncnn_file import NcnnFile, options_of

_MAGIC = 7767517
_TAGS: dict[Any, int] = {np.float32: 0, np.float16: 0x01306B47, np.int8: 0x000D4B38}
"""What stands before weights and says of which type they are."""
_SIXTH = "0.16666667"
_FUSED: dict[str, list[tuple[int, object]]] = {
    "relu": [(9, 1)],
    "relu6": [(9, 3), (-23310, "2,0.0,6.0")],
    "sigmoid": [(9, 4)],
    "hswish": [(9, 6), (-23310, f"2,{_SIXTH},0.5")],
}
"""Functions that convolutions and fully connected layers apply themselves."""
_FUNCTIONS: dict[Function, tuple[str, list[tuple[int, object]]]] = {
    "relu": ("ReLU", []),
    "relu6": ("Clip", [(0, "0.0"), (1, "6.0")]),
    "hswish": ("HardSwish", [(0, _SIXTH), (1, "0.5")]),
    "hsigmoid": ("HardSigmoid", [(0, _SIXTH), (1, "0.5")]),
    "sigmoid": ("Sigmoid", []),
}
Params = Sequence[tuple[int, object]]


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
        check_first_kinds("ncnn", graph)
        model = _Model(graph, outputs, precision, quantized)
        for node in graph.nodes:
            model.add(node)
        return model.finish(outputs).pack()


@dataclass(slots=True)
class _Layer:
    kind: str
    inputs: list[str]
    output: str
    params: Params
    weights: bytes = b""


class _Model:
    """Collects layers; `quantized` is what int8 numbers stand for."""

    def __init__(
        self, graph: Graph, outputs: Sequence[Value], precision: str, quantized: QuantizedGraph | None
    ) -> None:
        self.graph, self.precision, self.quantized = graph, precision, quantized
        self.readers = Counter(value for node in graph.nodes for value in node.inputs) + Counter(outputs)
        self.only_reader = {value: node for node in graph.nodes for value in node.inputs if self.readers[value] == 1}
        self.flat: set[Value] = set()  # those of which ncnn holds C alone
        self.fused: set[Node] = set()
        _, c, h, w = graph.input.shape
        self.layers = [_Layer("Input", [], "input", [(0, w), (1, h), (2, c)])]

    def name(self, value: Value) -> str:
        """Return a value's name in the file."""
        return {self.graph.input: "input", self.graph.output: "output"}.get(value, value.name)

    def add(self, node: Node) -> None:
        """Append the layers of one operator."""
        if node in self.fused:
            return
        if isinstance(node, Mean | Linear) or self.flat.issuperset(node.inputs):
            self.flat.add(node.output)
        match node:
            case Conv():
                self.conv(node)
            case Linear():
                self.weighted("InnerProduct", node, self.name(node.inputs[0]), [(0, len(node.bias))])
            case Activation():
                self.emit(node, *_FUNCTIONS[node.function])
            case Binary():
                self.emit(node, "BinaryOp", [(0, {"add": 0, "mul": 2}[node.operation])])
            case Shuffle():
                source = self.image(node) if node.output in self.flat else self.name(node.inputs[0])
                self.flat.discard(node.output)
                self.layers.append(_Layer("ShuffleChannel", [source], self.name(node.output), [(0, node.groups)]))
            case Mean() if self.flat.issuperset(node.inputs):  # there is one pixel, and it is its own mean
                self.emit(node, "Noop", [])
            case Mean():
                self.emit(node, "Pooling", [(0, 1), (4, 1)])
            case _:
                raise unknown_operator("ncnn", node)

    def conv(self, node: Conv) -> None:
        """Append a convolution; of a single pixel's channels it is a fully connected layer."""
        outputs, _, kh, kw = node.weight.shape
        source = self.name(node.inputs[0])
        if node.output in self.flat:
            if (kh, kw, node.groups, node.padding) == (1, 1, 1, (0, 0)):
                self.weighted("InnerProduct", node, source, [(0, outputs)])
                return
            self.flat.remove(node.output)
            source = self.image(node)
        (sh, sw), (ph, pw), (dh, dw) = node.stride, node.padding, node.dilation
        sides = [(1, kw), (11, kh), (2, dw), (12, dh), (3, sw), (13, sh), (4, pw), (14, ph)]
        kind, groups = ("ConvolutionDepthWise", [(7, node.groups)]) if node.groups > 1 else ("Convolution", [])
        self.weighted(kind, node, source, [(0, outputs), *sides, *groups])

    def weighted(self, kind: str, node: Conv | Linear, source: str, params: Params) -> None:
        """Append a layer with weights, and with the function that follows where it can apply that."""
        bias_term, size = (1 if kind == "InnerProduct" else 5), (2 if kind == "InnerProduct" else 6)
        function: str = node.activation if isinstance(node, Conv) else "none"
        output = node.output
        reader = self.only_reader.get(output)
        if function == "none" and isinstance(reader, Activation) and reader.function in _FUSED:
            function, output = reader.function, reader.output
            self.fused.add(reader)
            self.flat |= {output} if node.output in self.flat else set()
        params = [*params, (bias_term, 1), (size, node.weight.size), *_FUSED.get(function, ())]
        if self.quantized is None or not _has_int8(node):
            own = in_float16(node.weight, node) if self.precision == "float16" else node.weight
            weights = _tagged(own) + _bytes(node.bias)
        else:
            weight, scales = _of_weights(node.weight.reshape(len(node.weight), -1))
            weights = _tagged(weight) + _bytes(node.bias, scales, self.scale(node.inputs[0]))
            reader = self.only_reader.get(output)
            requantized = kind != "InnerProduct" and isinstance(reader, Conv) and _has_int8(reader)
            params.append((8, 101 if requantized else 1))
            weights += _bytes(self.scale(output)) if requantized else b""
        self.layers.append(_Layer(kind, [source], self.name(output), params, weights))

    def scale(self, value: Value) -> NDArray[np.float32]:
        """Return the scale of a value's int8 numbers, as ncnn has it."""
        assert self.quantized is not None
        found = self.quantized.of(value)
        largest = found.scale * max(QMAX - found.zero_point, found.zero_point - QMIN)
        return np.array([WEIGHT_MAX / largest], np.float32)

    def image(self, node: Node) -> str:
        """Append a reshape of an operator's input, C alone, to an image of one pixel, and return its name."""
        name = f"{self.name(node.output)}_image"
        self.layers.append(_Layer("Reshape", [self.name(node.inputs[0])], name, [(0, 1), (1, 1), (2, -1)]))
        return name

    def emit(self, node: Node, kind: str, params: Params) -> None:
        """Append a layer without weights."""
        self.layers.append(_Layer(kind, [self.name(value) for value in node.inputs], self.name(node.output), params))

    def finish(self, outputs: Sequence[Value]) -> NcnnFile:
        """Return the finished model; every blob is read once, what is read more often through a Split."""
        left: dict[str, list[str]] = {}
        lines, blobs = [], 0
        readers = {self.name(value): count for value, count in self.readers.items()}
        for number, layer in enumerate(self.layers):
            inputs = [left[name].pop(0) if name in left else name for name in layer.inputs]
            lines.append(_line(layer.kind, f"layer_{number}", inputs, [layer.output], layer.params))
            blobs += 1
            if readers.get(layer.output, 0) > 1:
                left[layer.output] = [f"{layer.output}_{i}" for i in range(readers[layer.output])]
                lines.append(_line("Split", f"split_{number}", [layer.output], left[layer.output], []))
                blobs += len(left[layer.output])
        ends = {left[name][0] if (name := self.name(value)) in left else name: value.shape for value in outputs}
        param = "\n".join([str(_MAGIC), f"{len(lines)} {blobs}", *lines]) + "\n"
        weights = b"".join(layer.weights for layer in self.layers)
        return NcnnFile(param, weights, options_of(self.precision), {name: list(shape) for name, shape in ends.items()})


def _has_int8(node: Conv | Linear) -> bool:
    """Whether an operator is written in int8.

    ncnn 1.0.20261020 computes nonsense of int8 convolutions in groups of 8 outputs each, on x86: these stay in float.
    """
    return isinstance(node, Linear) or node.groups in (1, len(node.weight))


def _line(kind: str, name: str, inputs: list[str], outputs: list[str], params: Params) -> str:
    head = f"{kind:<24} {name:<24} {len(inputs)} {len(outputs)}"
    return " ".join([head, *inputs, *outputs, *(f"{number}={value}" for number, value in params)])


def _of_weights(rows: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Return int8 weights and their scales, one for each output channel."""
    largest = np.abs(rows).max(axis=1)
    scales = (WEIGHT_MAX / np.where(largest == 0, 1, largest)).astype(np.float32)
    return np.clip(np.rint(rows * scales[:, None]), -WEIGHT_MAX, WEIGHT_MAX).astype(np.int8), scales


def _tagged(array: NDArray[Any]) -> bytes:
    data = np.ascontiguousarray(array).tobytes()
    return struct.pack("<I", _TAGS[array.dtype.type]) + data + bytes(-len(data) % 4)


def _bytes(*arrays: NDArray[np.float32]) -> bytes:
    return b"".join(np.ascontiguousarray(array, np.float32).tobytes() for array in arrays)
