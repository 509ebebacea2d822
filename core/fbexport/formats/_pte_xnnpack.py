"""A graph of XNNPACK's operators as its ExecuTorch delegate reads it (executorch/backends/xnnpack, schema.fbs).

Tensors are NHWC. Nothing says which fields a node has but the schema, in whose order they stand here.
"""

import struct
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fbexport.formats._pte_tables import Fields, Tables
from fbexport.quantization.scheme import Float32, Quantization

_CONV = (
    "padding_top", "padding_right", "padding_bottom", "padding_left", "kernel_height", "kernel_width",
    "subsampling_height", "subsampling_width", "dilation_height", "dilation_width", "group_input_channels",
    "group_output_channels", "groups", "adjustment_height", "adjustment_width", "input1_id", "filter_id", "bias_id",
    "output_id", "flags",
)  # fmt: skip
_POOL = (
    "padding_top", "padding_right", "padding_bottom", "padding_left", "pooling_height", "pooling_width",
    "stride_height", "stride_width", "dilation_height", "dilation_width", "input_id", "output_id", "flags",
)  # fmt: skip
_UNARY = ("input_id", "output_id", "flags")
_BINARY = ("input1_id", "input2_id", "output_id", "flags")
_CONCAT = ("axis", "input1_id", "input2_id", "input3_id", "input4_id", "output_id", "flags", "input5_id")
_NODES: dict[str, tuple[int, tuple[str, ...]]] = {
    "Add": (1, _BINARY),
    "FullyConnected": (2, ("input1_id", "filter_id", "bias_id", "output_id", "flags")),
    "Softmax": (3, _UNARY),
    "Sigmoid": (4, _UNARY),
    "StaticTranspose": (5, ("num_dims", "perm", *_UNARY)),
    "Clamp": (6, _UNARY),
    "Conv2d": (7, _CONV),
    "Div": (8, _BINARY),
    "StaticResizeBilinear2D": (9, ("new_height", "new_width", *_UNARY)),
    "StaticConstantPad": (10, ("pre_paddings", "post_paddings", "padding_value", *_UNARY)),
    "AvgPooling2d": (11, _POOL),
    "Minimum": (12, _BINARY),
    "DepthwiseConv2d": (13, _CONV),
    "MaxPooling2d": (14, _POOL),
    "Multiply": (15, _BINARY),
    "Subtract": (16, _BINARY),
    "Convert": (18, _UNARY),
    "GlobalAvgPooling2d": (19, _UNARY),
    "StaticReshape": (20, ("num_dims", "new_shape", *_UNARY)),
    "SquareRoot": (22, _UNARY),
    "Hardswish": (24, _UNARY),
    "LeakyReLU": (25, ("negative_slope", *_UNARY)),
    "Maximum": (26, _BINARY),
    "Square": (28, _UNARY),
    "ELU": (29, ("alpha", *_UNARY)),
    "Abs": (30, _UNARY),
    "PReLU": (31, _BINARY),
    "Concatenate2": (32, _CONCAT),
    "Concatenate3": (33, _CONCAT),
    "Concatenate4": (34, _CONCAT),
    "StaticSlice": (35, ("num_dims", "offsets", "sizes", *_UNARY)),
    "BatchMatrixMultiply": (37, _BINARY),
    "Concatenate5": (38, _CONCAT),
    "ConvTranspose2d": (39, _CONV),
    "ReciprocalSquareRoot": (40, _UNARY),
    "Gelu": (42, _UNARY),
    "Tanh": (43, _UNARY),
    "Exp": (44, _UNARY),
}
"""Number in the schema's union of nodes, and fields."""
_FP32, _QINT8, _QCINT8, _QCINT32 = 1, 3, 6, 7
_INTERNAL = 0xFFFFFFFF
_INPUT, _OUTPUT = 1, 2
_NAMED = 0xFFFFFFFFFFFFFFFF
_PER_CHANNEL, _PER_TENSOR = 1, 2
_ALIGNMENT = 64
_HEADER_BYTES = 32


@dataclass(frozen=True, slots=True)
class Channels:
    """What the integers of weights and biases stand for: a scale for each index of an axis."""

    scales: Float32
    axis: int


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor of the graph: `data` is its constant's number, 0 for none, `end` its place among a call's arguments."""

    shape: tuple[int, ...]
    kind: int
    scheme: Quantization | Channels | None = None
    data: int = 0
    end: int = _INTERNAL
    flags: int = 0


class Delegate:
    """Collects tensors, constants and nodes; those that are returned are numbers."""

    def __init__(self) -> None:
        self.tensors: list[Tensor] = []
        self.named: list[tuple[str, bytes]] = []
        """Constants that the program holds for the delegate, by name."""
        self._nodes: list[tuple[str, dict[str, Any], tuple[float, float] | None]] = []
        self._constants: list[NDArray[Any] | str] = []
        self._inputs: list[int] = []
        self._outputs: list[int] = []

    def tensor(self, shape: tuple[int, ...], scheme: Quantization | None = None) -> int:
        """Add an activation, float32 or, with what they stand for, int8."""
        return self._add(Tensor(shape, _FP32 if scheme is None else _QINT8, scheme))

    def like(self, source: int, shape: tuple[int, ...]) -> int:
        """Add a tensor of another shape for the same kind of numbers as another's."""
        return self._add(replace(self.tensors[source], shape=shape, end=_INTERNAL, flags=0))

    def input(self, shape: tuple[int, ...]) -> int:
        """Add an input, float32; all of them before the first output."""
        number = self.tensor(shape)
        self._end(number, _INPUT, self._inputs)
        return number

    def output(self, number: int) -> None:
        """Make a float32 tensor an output."""
        self._end(number, _OUTPUT, self._outputs)

    def constant(self, array: NDArray[Any], channels: Channels | None = None) -> int:
        """Add weights or biases, float32 or, with the scales of their channels, int8 or int32."""
        data = self._data(np.ascontiguousarray(array))
        kind = {np.float32: _FP32, np.int8: _QCINT8, np.int32: _QCINT32}[array.dtype.type]
        return self._add(Tensor(array.shape, kind, channels, data))

    def operand(self, array: NDArray[Any], scheme: Quantization | None) -> int:
        """Add a constant that goes into sums and products.

        It is read whenever they run, and not packed once as weights are: so the program keeps it, since the delegate's
        own constants are gone when it is loaded.
        """
        key = f"operand_{len(self.named)}"
        self.named.append((key, array.tobytes()))
        self._constants.append(key)
        return self._add(Tensor(array.shape, _FP32 if scheme is None else _QINT8, scheme, len(self._constants)))

    def emit(self, kind: str, output: int, bounds: tuple[float, float] | None = None, **fields: Any) -> int:
        """Append a node, whose results are held within bounds; return its output. Fields that are not given are 0."""
        self._nodes.append((kind, {"output_id": output, **fields}, bounds))
        return output

    def pack(self) -> bytes:
        """Return the delegate's part of a program."""
        tables = Tables()
        values = [self._value(tables, number, tensor) for number, tensor in enumerate(self.tensors)]
        nodes = [self._node(tables, number, *node) for number, node in enumerate(self._nodes)]
        entries, data, end = [tables.table({})], [], 0  # number 0 is none
        sizes = {key: len(content) for key, content in self.named}
        for constant in self._constants:
            if isinstance(constant, str):
                size = sizes[constant]
                fields: Fields = {0: ("Uint64", _NAMED), 1: ("Uint64", size), 2: tables.text(constant)}
            else:
                fields = {0: ("Uint64", end), 1: ("Uint64", constant.nbytes)}
                data.append(constant.tobytes() + bytes(-constant.nbytes % _ALIGNMENT))
                end += len(data[-1])
            entries.append(tables.table(fields))
        graph = tables.finish(
            tables.table(
                {
                    0: tables.text("0"),
                    1: tables.parts(nodes),
                    2: tables.parts(values),
                    3: ("Uint32", len(self._inputs) + len(self._outputs)),
                    4: tables.numbers(self._inputs, np.uint32),
                    5: tables.numbers(self._outputs, np.uint32),
                    8: tables.parts(entries),
                }
            ),
            b"XN01",
        )
        padding = bytes(-(_HEADER_BYTES + len(graph)) % _ALIGNMENT)
        start = _HEADER_BYTES + len(graph) + len(padding)
        header = struct.pack("<4x4sHIIIQ2x", b"XH00", 30, _HEADER_BYTES, len(graph), start, end)
        return b"".join([header, graph, padding, *data])

    def _add(self, tensor: Tensor) -> int:
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def _end(self, number: int, flag: int, ends: list[int]) -> None:
        place = len(self._inputs) + len(self._outputs)
        self.tensors[number] = replace(self.tensors[number], end=place, flags=flag)
        ends.append(number)

    def _data(self, array: NDArray[Any]) -> int:
        self._constants.append(array)
        return len(self._constants)

    def _value(self, tables: Tables, number: int, tensor: Tensor) -> int:
        shape = tables.numbers(tensor.shape, np.uint32)
        fields: Fields = {
            0: ("Int16", tensor.kind),
            1: ("Uint32", len(tensor.shape)),
            2: shape,
            3: ("Uint32", tensor.data),
            4: ("Uint32", tensor.end),
            5: ("Uint32", tensor.flags),
            6: ("Uint32", number),
        }
        value, scheme = tables.table(fields), tensor.scheme
        if scheme is None:
            return tables.union(1, value)
        if isinstance(scheme, Channels):
            places: Fields = {1: ("Int32", scheme.axis), 2: ("Uint32", self._data(scheme.scales))}
            places |= {0: tables.numbers([], np.float32), 3: ("Uint32", len(scheme.scales))}
            kind, told = _PER_CHANNEL, tables.table(places)
        else:
            kind = _PER_TENSOR
            told = tables.table({0: ("Float32", scheme.scale), 1: ("Int32", scheme.zero_point)})
        return tables.union(2, tables.table({0: value, 1: ("Uint8", kind), 2: told}))

    def _node(
        self, tables: Tables, number: int, kind: str, given: dict[str, Any], bounds: tuple[float, float] | None
    ) -> int:
        place, names = _NODES[kind]
        fields: Fields = {}
        for at, name in enumerate(names):
            match given.get(name, 0):
                case tuple(value):
                    fields[at] = tables.numbers(value, np.uint32)
                case float(value):
                    fields[at] = ("Float32", value)
                case value:
                    fields[at] = ("Uint32", value)
        node: Fields = {0: ("Uint8", place), 1: tables.table(fields), 2: ("Uint32", number)}
        if bounds is not None:
            node[3] = tables.table({0: ("Float32", bounds[0]), 1: ("Float32", bounds[1])})
        return tables.table(node)
