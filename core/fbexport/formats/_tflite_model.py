"""A model in TFLite as it is put together: its tensors, the operators, the constants they use."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fbexport.errors import ExportError
from fbexport.formats._layout import Layout, Order, usual
from fbexport.graph import Graph, Value
from fbexport.quantization.quantized import QuantizedGraph
from fbexport.quantization.scheme import Quantization, of_array

try:
    from fbmodel.flatbuffer import AlignedBuffer, packed, schema
except ModuleNotFoundError as error:
    raise ExportError(
        "writing .tflite files needs the package ai-edge-litert, which holds the format's schema (tflite-runtime does "
        "not): pip install ai-edge-litert. Where it has no wheel, export on another machine"
    ) from error

OP = schema.BuiltinOperator
INT8_VERSIONS = {
    OP.CONV_2D: 3,
    OP.DEPTHWISE_CONV_2D: 3,
    OP.FULLY_CONNECTED: 4,
    OP.HARD_SWISH: 1,
    OP.RESHAPE: 1,
    OP.PRELU: 1,
}
"""Versions of operators that take int8, 2 for all others; runtimes refuse a model that states an older one."""


class TfLiteModel(Layout):
    """Collects the tensors and operators of a TFLite model."""

    def __init__(self, precision: str, quantized: QuantizedGraph | None) -> None:
        super().__init__(quantized)
        self.precision = precision
        self.tensors: list[Any] = []
        self.operators: list[Any] = []
        self.codes: dict[tuple[int, int], int] = {}
        self.buffers: list[Any] = [AlignedBuffer()]  # number 0 is empty by convention: tensors without data name it
        self.not_negative: set[str] = set()
        """Values of which 0 is the least: XNNPACK pads with nothing else."""

    def emit(self, code: int, inputs: list[int], output: int, options: Any = None, version: int = 1) -> int:
        """Append one operator and return its output."""
        if self.quantized is not None:
            version = max(version, INT8_VERSIONS.get(code, 2))
        made = schema.OperatorT(
            opcodeIndex=self.codes.setdefault((code, version), len(self.codes)), inputs=inputs, outputs=[output]
        )
        if options is not None:
            name = type(options).__name__.removesuffix("T")
            made.builtinOptions, made.builtinOptionsType = options, getattr(schema.BuiltinOptions, name)
        self.operators.append(made)
        return output

    def made(self, value: Value, shape: tuple[int, ...]) -> int:
        """Add the tensor of a value."""
        if self.quantized is None:
            return self.tensor(shape, name=value.name)
        return self.integer_tensor(shape, self.quantized.of(value), value.name)

    def turn(self, source: int, axes: Order, output: int) -> int:
        """Append a transposition."""
        return self.emit(OP.TRANSPOSE, [source, self.integers(axes)], output, schema.TransposeOptionsT())

    def known(self, array: NDArray[np.float32], scheme: Quantization | None = None) -> int:
        """Add a constant that takes part in the computation; its int8 numbers are of its own range unless told."""
        if self.quantized is None:
            return self.constant(array)
        scheme = scheme or of_array(array)
        scale = np.array([scheme.scale], np.float32)
        return self.constant(scheme.quantize(array), scale, zero_point=scheme.zero_point)

    def reshape(self, source: int, output: int) -> int:
        """Append a reshape to the shape of `output`."""
        shape = self.integers(self.tensors[output].shape)
        return self.emit(OP.RESHAPE, [source, shape], output, schema.ReshapeOptionsT())

    def integers(self, values: Any) -> int:
        """Add int32 numbers that say how an operator works, such as axes and shapes."""
        return self.constant(np.array(values, np.int32))

    def constant(
        self, array: NDArray[Any], scale: NDArray[np.float32] | None = None, zero_point: int = 0, axis: int = 0
    ) -> int:
        """Add a tensor with data, int8 and int32 with the scales of an axis where they stand for reals."""
        self.buffers.append(AlignedBuffer(data=np.ascontiguousarray(array).reshape(-1).view(np.uint8)))
        scheme = None if scale is None else scheme_of(scale, zero_point, axis)
        return self.tensor(array.shape, KINDS[array.dtype.type], len(self.buffers) - 1, scheme=scheme)

    def integer_tensor(self, shape: tuple[int, ...], scheme: Quantization, name: str | None = None) -> int:
        """Add an int8 tensor and return its number."""
        packed = scheme_of(np.array([scheme.scale], np.float32), scheme.zero_point, 0)
        return self.tensor(shape, schema.TensorType.INT8, name=name, scheme=packed)

    def like(self, source: int, shape: tuple[int, ...] | None = None) -> int:
        """Add a tensor for the same kind of numbers as another's."""
        return self.tensor(
            self.shape(source) if shape is None else shape,
            self.tensors[source].type,
            scheme=self.tensors[source].quantization,
        )

    def shape(self, number: int) -> tuple[int, ...]:
        """Return a tensor's shape."""
        return tuple(self.tensors[number].shape)

    def tensor(
        self, shape: tuple[int, ...], kind: int = 0, buffer: int = 0, name: str | None = None, scheme: Any = None
    ) -> int:
        """Add a tensor and return its number; `kind` 0 is float32."""
        name = name or f"tensor_{len(self.tensors)}"
        self.tensors.append(schema.TensorT(shape=list(shape), type=kind, buffer=buffer, name=name, quantization=scheme))
        return len(self.tensors) - 1

    def pack(self, network: Graph, outputs: Sequence[Value]) -> bytes:
        """Return the finished file; what is an input or an output already is copied."""
        inputs = [self.numbers[each.name, usual(each.shape)] for each in network.inputs]
        ends: list[int] = []
        for end in [self.read(each, usual(each.shape)) for each in outputs]:
            ends.append(self.reshape(end, self.like(end)) if end in (*inputs, *ends) else end)
        for value, end in zip(outputs, ends, strict=True):
            self.tensors[end].name = network.called.get(value, self.tensors[end].name)
        graph = schema.SubGraphT(
            tensors=self.tensors,
            inputs=inputs,
            outputs=ends,
            operators=self.operators,
            name="main",
        )
        codes = [  # the older one-byte field holds 127 for operators that do not fit into it
            schema.OperatorCodeT(deprecatedBuiltinCode=min(code, 127), builtinCode=code, version=version)
            for code, version in self.codes
        ]
        model = schema.ModelT(
            version=3, operatorCodes=codes, subgraphs=[graph], description="fbnet-lab", buffers=self.buffers
        )
        return packed(model)


KINDS = {
    np.float32: schema.TensorType.FLOAT32,
    np.float16: schema.TensorType.FLOAT16,
    np.int8: schema.TensorType.INT8,
    np.int32: schema.TensorType.INT32,
}


def scheme_of(scale: NDArray[np.float32], zero_point: int, axis: int) -> Any:
    """Return what a tensor's numbers stand for."""
    points = np.full(scale.shape, zero_point, np.int64)
    return schema.QuantizationParametersT(scale=scale, zeroPoint=points, quantizedDimension=axis)
