"""A model of ncnn while it is written: layers, the blobs that they make, and how values of the graph lie in these.

ncnn has no axis N: of several images one is run after the other. A blob has a value's other axes, at most four, or the
same numbers in other sides: it is reshaped only where a layer needs the value's own.
"""

import math
import struct
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fbexport.errors import ExportError
from fbexport.formats import unknown_operator
from fbexport.graph import (
    Activation,
    Array,
    Binary,
    Concat,
    Constant,
    Expand,
    Graph,
    Linear,
    MatMul,
    Node,
    Norm,
    Pad,
    Reduce,
    Reshape,
    Slice,
    Softmax,
    Transpose,
    Value,
)  # fmt: skip
from fbexport.runtimes._ncnn_file import NcnnFile, options_of

_MAGIC = 7767517
_TAGS: dict[Any, int] = {np.float32: 0, np.float16: 0x01306B47, np.int8: 0x000D4B38}
"""What stands before weights and says of which type they are."""
_SIDES: dict[int, tuple[int, ...]] = {1: (0,), 2: (1, 0), 3: (2, 1, 0), 4: (2, 11, 1, 0)}
"""Parameters that say how large a blob is, from its first axis to its last: c, d, h, w."""
NOWHERE = 9
"""An axis that no value has."""
Params = Sequence[tuple[int, object]]
Dims = tuple[int, ...]


@dataclass(slots=True)
class Layer:
    """A line of the `.param` file, and what the `.bin` file has of it."""

    kind: str
    inputs: list[str]
    output: str
    params: Params
    weights: bytes = b""


class NcnnModel:
    """Collects layers."""

    def __init__(self, graph: Graph, outputs: Sequence[Value]) -> None:
        self.graph, self.outputs = graph, list(outputs)
        self.node: Node = graph.nodes[0]
        """The operator that is being written."""
        self.batch = dict.fromkeys(graph.inputs, 0)
        """Which axis of a value is N."""
        self.blobs: dict[str, Dims] = {}
        """Sides of each blob."""
        self.places: dict[Value, str] = {}
        """The blob that has a value's numbers."""
        self.layers: list[Layer] = []
        self._reshaped: dict[tuple[str, Dims], str] = {}
        self.places |= {value: value.name for value in graph.inputs}
        for value in graph.inputs:
            if value.shape[0] != graph.input.shape[0]:
                raise ExportError("ncnn runs one image after the other, and the inputs are of other numbers of images")
            dims = self.dims(value)
            self._append("Input", [], value.name, dims if len(dims) <= 4 else (math.prod(dims),), [])
            self.layers[-1].params = sides(self.blobs[value.name])[::-1]  # w, h and c, as the C agent reads them

    def refusal(self) -> Exception:
        """Return the error for the operator that is being written."""
        return unknown_operator("ncnn", self.node)

    def begin(self, node: Node) -> None:
        """Begin with an operator, and find where N is in what it makes. Raises UnknownOperatorError if nowhere."""
        self.node, self._start = node, len(self.layers)
        axes = {self.batch[value] for value in node.inputs if not isinstance(value, Constant)}
        images, output = self.graph.input.shape[0], node.output
        axis = _batch_axis(node, axes.pop(), images) if len(axes) == 1 else None
        if axis is None or {*output.shape[axis : axis + 1]} - {images}:
            raise self.refusal()
        if any({*value.shape[axis : axis + 1]} - {1} for value in node.inputs if isinstance(value, Constant)):
            raise self.refusal()
        if axis != 0 and (output in self.graph.outputs or (images > 1 and output in self.outputs)):
            raise self.refusal()
        self.batch[output] = axis

    def without(self, value: Value, each: Sequence[Any]) -> tuple[Any, ...]:
        """Return what there is for each axis of a value without that for N; constants have it where the result has."""
        batch = self.batch[self.node.output if isinstance(value, Constant) else value]
        return (*each[:batch], *each[batch + 1 :])

    def dims(self, value: Value) -> Dims:
        """Return a value's sides without N."""
        return self.without(value, value.shape) or (1,)

    def axis(self, value: Value, axis: int) -> int:
        """Return where an axis of a value is without N."""
        return axis - (axis > self.batch[value])

    def lying(self, value: Value) -> Dims:
        """Return the sides of the blob that has a value's numbers."""
        return self.blobs[self.places[value]]

    def read(self, value: Value, dims: Sequence[int] | None = None) -> str:
        """Return a blob of a value with given sides, or else with its own. Raises where these are more than four."""
        dims = tuple(dims or self.dims(value))
        if len(dims) > 4:
            raise self.refusal()
        if isinstance(value, Constant):
            return self.constant(value.name, value.array.reshape(dims))
        return self.reshape(self.places[value], dims)

    def constant(self, name: str, array: Array) -> str:
        """Return a blob of known numbers."""
        key = (name, array.shape)
        if key not in self._reshaped:
            self._reshaped[key] = self.step("MemoryData", [], array.shape, sides(array.shape), untagged(array))
        return self._reshaped[key]

    def reshape(self, blob: str, dims: Dims) -> str:
        """Return a blob with the same numbers and other sides."""
        if self.blobs[blob] == dims:
            return blob
        if (blob, dims) not in self._reshaped:
            self._reshaped[blob, dims] = self.step("Reshape", [blob], dims, sides(dims))
        return self._reshaped[blob, dims]

    def step(
        self, kind: str, inputs: Sequence[str], dims: Sequence[int], params: Params = (), weights: bytes = b""
    ) -> str:
        """Append a layer, and return the blob that it makes."""
        name = f"{self.node.output.name}.{len(self.layers)}"
        self._append(kind, inputs, name, tuple(dims), params, weights)
        return name

    def _append(
        self, kind: str, inputs: Sequence[str], output: str, dims: Dims, params: Params, weights: bytes = b""
    ) -> None:
        self.layers.append(Layer(kind, list(inputs), output, params, weights))
        self.blobs[output] = dims

    def put(self, blob: str, value: Value | None = None) -> None:
        """Let a blob be what the operator makes. Outputs have sides of their own, or are channels alone."""
        value, last = value or self.node.output, self.layers[-1]
        self.batch[value] = self.batch[self.node.output]
        dims = self.dims(value)
        is_whole = self.blobs[blob] in (dims, dims[:1]) or len(dims) > 4
        ends = map(self.places.get, (*self.graph.inputs, *self.outputs))
        if value in self.outputs and (not is_whole or blob in ends):
            dims = self.blobs[blob] if is_whole else dims
            blob = self.step("Reshape", [blob], dims, sides(dims))
        elif last.output == blob and last.kind != "Reshape" and len(self.layers) > self._start:
            last.output = value.name
            self.blobs[value.name] = self.blobs.pop(blob)
            blob = value.name
        self.places[value] = blob

    def grouped(self, labels: Sequence[Hashable]) -> list[list[int]]:
        """Return the axes that layers are to see, each of those that are joined: where they are more than four.

        Neighbours with the same label may be. Raises where as many as five are left.
        """
        if len(labels) <= 4:
            return [[axis] for axis in range(len(labels))]
        groups = [list(group) for _, group in groupby(range(len(labels)), key=lambda axis: labels[axis])]
        if len(groups) > 4:
            raise self.refusal()
        return groups

    def finish(self, precision: str) -> NcnnFile:
        """Return the finished model; every blob is read once, what is read more often through a Split."""
        called = {self.places[value]: name for value, name in self.graph.called.items()}
        for layer in self.layers:
            layer.inputs = [called.get(name, name) for name in layer.inputs]
            layer.output = called.get(layer.output, layer.output)
        ends = {called.get(self.places[value], self.places[value]): value.shape for value in self.outputs}
        readers = Counter(name for layer in self.layers for name in layer.inputs) + Counter(list(ends))
        left: dict[str, list[str]] = {}
        lines, blobs = [], 0
        for number, layer in enumerate(self.layers):
            inputs = [left[name].pop(0) if name in left else name for name in layer.inputs]
            made, copies = layer.output, [f"{layer.output}:{i}" for i in range(readers[layer.output])]
            if len(copies) > 1 and made in ends:  # which keeps its name
                made, copies[-1] = copies[-1], made
            lines.append(_line(layer.kind, f"layer_{number}", inputs, [made], layer.params))
            blobs += 1
            if len(copies) > 1:
                left[layer.output] = copies
                lines.append(_line("Split", f"split_{number}", [made], copies, []))
                blobs += len(copies)
        param = "\n".join([str(_MAGIC), f"{len(lines)} {blobs}", *lines]) + "\n"
        weights = b"".join(layer.weights for layer in self.layers)
        shapes = {name: list(shape) for name, shape in ends.items()}
        sources = {value.name: list(value.shape) for value in self.graph.inputs}
        is_usual = len(sources) == 1 and len(self.graph.input.shape) == 4
        return NcnnFile(param, weights, options_of(precision), shapes, {} if is_usual else sources)


def _batch_axis(node: Node, axis: int, images: int) -> int | None:
    """Return which axis is N in what an operator makes of values in which it is a given one; None if it mixes images.

    Layers of images want it first. A single image may have none.
    """
    output, shape = node.output.shape, node.inputs[0].shape
    match node:
        case Reshape() if images == 1:
            return 0 if output[0] == 1 else NOWHERE
        case Reshape():
            before = math.prod(shape[:axis])
            found = (at for at, size in enumerate(output) if size == images and math.prod(output[:at]) == before)
            return next(found, None)
        case Transpose():
            return node.axes.index(axis) if axis in node.axes else NOWHERE
        case Reduce() if axis not in node.axes:
            return axis if node.keep_dims or axis == NOWHERE else axis - sum(each < axis for each in node.axes)
        case Norm() if axis not in node.axes:
            return axis
        case Softmax() | Concat() if node.axis != axis:
            return axis
        case Linear() if axis != len(shape) - 1:
            return axis
        case MatMul() if axis not in (len(shape) - 2, len(shape) - 1):
            return axis
        case Activation() | Binary() | Slice() | Pad() | Expand():
            return axis
        case Reduce() | Norm() | Softmax() | Concat() | Linear() | MatMul():
            return None
        case _:
            return 0 if axis == 0 else None


def array_of(*numbers: object) -> str:
    """Return several numbers as one parameter, whose number is then −23300 less its own."""
    return ",".join(map(str, (len(numbers), *numbers)))


def sides(dims: Sequence[int]) -> list[tuple[int, object]]:
    """Return the parameters that say how large a blob is."""
    return list(zip(_SIDES[len(dims)], dims, strict=True))


def tagged(array: NDArray[Any]) -> bytes:
    """Return weights of any type as the `.bin` file has them."""
    data = np.ascontiguousarray(array).tobytes()
    return struct.pack("<I", _TAGS[array.dtype.type]) + data + bytes(-len(data) % 4)


def untagged(*arrays: Array) -> bytes:
    """Return numbers that are always float32, as the `.bin` file has them."""
    return b"".join(np.ascontiguousarray(array, np.float32).tobytes() for array in arrays)


def _line(kind: str, name: str, inputs: list[str], outputs: list[str], params: Params) -> str:
    head = f"{kind:<24} {name:<24} {len(inputs)} {len(outputs)}"
    return " ".join([head, *inputs, *outputs, *(f"{number}={value}" for number, value in params)])
