"""tflite: a flatbuffer written operator by operator with the schema classes of ai-edge-litert, NHWC.

float32; float16, whose weights are half as large and widened when the model is loaded; and int8, all integer from input
to output (TFLite's 8-bit quantisation specification).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fbexport.errors import ExportError
from fbexport.formats import Format, unknown_operator
from fbexport.formats._float16 import in_float16
from fbexport.formats._xnnpack import SIXTH, THREE, of_relu6
from fbexport.graph import Activation, Binary, Conv, Graph, Linear, Mean, Node, Shuffle, Value
from fbexport.quantization.quantized import QuantizedGraph
from fbexport.quantization.scheme import UNIT, Quantization

try:
    from fbmodel.flatbuffer import AlignedBuffer, packed, schema
except ModuleNotFoundError as error:
    raise ExportError(
        "writing .tflite files needs the package ai-edge-litert, which holds the format's schema (tflite-runtime does "
        "not): pip install ai-edge-litert. Where it has no wheel, export on another machine"
    ) from error

_OP = schema.BuiltinOperator
_FUSED = {
    "none": schema.ActivationFunctionType.NONE,
    "relu": schema.ActivationFunctionType.RELU,
    "relu6": schema.ActivationFunctionType.RELU6,
}
_FUNCTIONS = {"relu": _OP.RELU, "relu6": _OP.RELU6, "hswish": _OP.HARD_SWISH, "sigmoid": _OP.LOGISTIC}
_GROUPED_CONV_VERSION = 6
_INT8_VERSIONS = {_OP.CONV_2D: 3, _OP.DEPTHWISE_CONV_2D: 3, _OP.FULLY_CONNECTED: 4, _OP.HARD_SWISH: 1, _OP.RESHAPE: 1}
"""Versions of operators that take int8, 2 for all others; runtimes refuse a model that states an older one."""
_HALF_DEQUANTIZE_VERSION = 3


class TfLite(Format):
    """TFLite models: `input` of N, H, W, C, `output` of N, H, W, C or N, classes."""

    suffix = ".tflite"
    precisions = ("float32", "float16", "int8")

    def encode(self, graph: Graph, outputs: Sequence[Value], precision: str, quantized: QuantizedGraph | None) -> bytes:
        """Return a TFLite model."""
        model = _Model(precision, quantized)
        model.value(graph.input)
        for node in graph.nodes:
            model.add(node)
        return model.pack(graph.input, outputs)


class _Model:
    """Collects the tensors and operators of a TFLite model; `quantized` is what int8 numbers stand for."""

    def __init__(self, precision: str, quantized: QuantizedGraph | None) -> None:
        self.precision, self.quantized = precision, quantized
        self.tensors: list[Any] = []
        self.operators: list[Any] = []
        self.codes: dict[tuple[int, int], int] = {}
        self.buffers: list[Any] = [AlignedBuffer()]  # number 0 is empty by convention: tensors without data name it
        self.numbers: dict[str, int] = {}

    def add(self, node: Node) -> None:
        """Append the operators of one node."""
        inputs, output = [self.numbers[value.name] for value in node.inputs], self.value(node.output)
        match node:
            case Conv():
                self.conv(node, inputs[0], output)
            case Linear():
                options = schema.FullyConnectedOptionsT()
                self.emit(_OP.FULLY_CONNECTED, [*inputs, *self.parameters(node)], output, options)
            case Activation(function="hsigmoid"):
                self.hsigmoid(inputs[0], output)
            case Activation(function="hswish") if self.quantized is not None:
                self.int8_hswish(inputs[0], output)
            case Activation():
                options = schema.HardSwishOptionsT() if node.function == "hswish" else None
                self.emit(_FUNCTIONS[node.function], inputs, output, options)
            case Binary():
                self.binary(node.operation, inputs, output)
            case Shuffle():
                self.shuffle(node, inputs[0], output)
            case Mean():
                axes = self.integers([1, 2])
                self.emit(_OP.MEAN, [*inputs, axes], output, schema.ReducerOptionsT(keepDims=node.keep_dims))
            case _:
                raise unknown_operator("tflite", node)

    def conv(self, node: Conv, source: int, output: int) -> None:
        """Append a convolution.

        TFLite's own padding (SAME) equals torch's only where it is the same on both sides, which is always so for
        stride 1; elsewhere zeros are added explicitly, which costs no measurable time.
        """
        channels, height, width = node.inputs[0].shape[1:]
        ph, pw = node.padding
        same = _pads_alike(node, 0) and _pads_alike(node, 1)
        if not same and (ph or pw):
            amounts = self.integers([[0, 0], [ph, ph], [pw, pw], [0, 0]])
            padded = self.like(source, (node.inputs[0].shape[0], height + 2 * ph, width + 2 * pw, channels))
            source = self.emit(_OP.PAD, [source, amounts], padded, schema.PadOptionsT())
        settings: dict[str, Any] = {
            "padding": schema.Padding.SAME if same else schema.Padding.VALID,
            "strideH": node.stride[0],
            "strideW": node.stride[1],
            "dilationHFactor": node.dilation[0],
            "dilationWFactor": node.dilation[1],
            "fusedActivationFunction": _FUSED[node.activation],
        }
        if node.is_depthwise:
            axes, code = (1, 2, 3, 0), _OP.DEPTHWISE_CONV_2D  # 1, kh, kw, O
            version = 1 if node.dilation == (1, 1) else 2
            options = schema.DepthwiseConv2DOptionsT(depthMultiplier=len(node.bias) // channels, **settings)
        else:
            axes, code = (0, 2, 3, 1), _OP.CONV_2D  # O, kh, kw, I/groups
            version = _GROUPED_CONV_VERSION if node.groups > 1 else 1
            options = schema.Conv2DOptionsT(**settings)
        self.emit(code, [source, *self.parameters(node, axes)], output, options, version)

    def parameters(self, node: Conv | Linear, axes: tuple[int, ...] = (0, 1)) -> list[int]:
        """Add the weights with their axes in this order, and the biases; return their numbers."""
        if self.quantized is not None:
            made = self.quantized.parameters(node)
            channels = axes.index(0)
            return [
                self.constant(made.weight.transpose(axes), made.weight_scale, axis=channels),
                self.constant(made.bias, made.bias_scale),
            ]
        if self.precision == "float16":
            return [self.widened(node.weight.transpose(axes), node), self.widened(node.bias, node)]
        return [self.constant(node.weight.transpose(axes)), self.constant(node.bias)]

    def widened(self, array: NDArray[np.float32], node: Node) -> int:
        """Add numbers in float16 and their widening to float32, which runtimes carry out once or not at all."""
        half, wide = self.constant(in_float16(array, node)), self.tensor(array.shape)
        options = schema.DequantizeOptionsT()
        return self.emit(_OP.DEQUANTIZE, [half], wide, options, _HALF_DEQUANTIZE_VERSION)

    def hsigmoid(self, source: int, output: int) -> None:
        """Append relu6(x + 3) / 6; TFLite has no operator of its own for it."""
        shape = tuple(self.tensors[source].shape)
        if self.quantized is None:
            middle = self.tensor(shape)
        else:
            middle = self.integer_tensor(shape, of_relu6(float(self.tensors[source].quantization.scale[0])))
        clipped = self.binary("add", [source, self.number(*THREE)], middle, "relu6")
        self.binary("mul", [clipped, self.number(*SIXTH)], output)

    def int8_hswish(self, source: int, output: int) -> None:
        """Append x · hsigmoid(x).

        XNNPACK has no int8 HARD_SWISH, and TFLite's own is slow: a block of 16x56x56, expansion 4, took 2287 µs with it
        on an AMD EPYC, and 562 µs so.
        """
        gate = self.integer_tensor(tuple(self.tensors[source].shape), UNIT)
        self.hsigmoid(source, gate)
        self.binary("mul", [source, gate], output)

    def number(self, value: NDArray[np.float32], scheme: Quantization) -> int:
        """Add a constant of one number."""
        if self.quantized is None:
            return self.constant(value)
        scale = np.array([scheme.scale], np.float32)
        return self.constant(scheme.quantize(value), scale, zero_point=scheme.zero_point)

    def binary(self, operation: str, inputs: list[int], output: int, activation: str = "none") -> int:
        """Append a sum or a product."""
        code, options = (_OP.ADD, schema.AddOptionsT) if operation == "add" else (_OP.MUL, schema.MulOptionsT)
        return self.emit(code, inputs, output, options(fusedActivationFunction=_FUSED[activation]))

    def shuffle(self, node: Shuffle, source: int, output: int) -> None:
        """Append a channel shuffle: split the channels into groups, swap the two axes, join them again."""
        n, c, h, w = node.output.shape
        split, swapped = (n, h * w, node.groups, c // node.groups), (n, h * w, c // node.groups, node.groups)
        groups = self.reshape(source, self.like(source, split))
        order = self.integers([0, 1, 3, 2])
        turned = self.emit(_OP.TRANSPOSE, [groups, order], self.like(source, swapped), schema.TransposeOptionsT())
        self.reshape(turned, output)

    def reshape(self, source: int, output: int) -> int:
        """Append a reshape to the shape of `output`."""
        shape = self.integers(self.tensors[output].shape)
        return self.emit(_OP.RESHAPE, [source, shape], output, schema.ReshapeOptionsT())

    def emit(self, code: int, inputs: list[int], output: int, options: Any = None, version: int = 1) -> int:
        """Append one operator and return its output."""
        if self.quantized is not None:
            version = max(version, _INT8_VERSIONS.get(code, 2))
        made = schema.OperatorT(
            opcodeIndex=self.codes.setdefault((code, version), len(self.codes)), inputs=inputs, outputs=[output]
        )
        if options is not None:
            name = type(options).__name__.removesuffix("T")
            made.builtinOptions, made.builtinOptionsType = options, getattr(schema.BuiltinOptions, name)
        self.operators.append(made)
        return output

    def value(self, value: Value) -> int:
        """Add the tensor of a value, NHWC, and return its number."""
        shape = (value.shape[0], *value.shape[2:], value.shape[1])
        if self.quantized is None:
            number = self.tensor(shape, name=value.name)
        else:
            number = self.integer_tensor(shape, self.quantized.of(value), value.name)
        self.numbers[value.name] = number
        return number

    def integers(self, values: Any) -> int:
        """Add int32 numbers that say how an operator works, such as axes and shapes."""
        return self.constant(np.array(values, np.int32))

    def constant(
        self, array: NDArray[Any], scale: NDArray[np.float32] | None = None, zero_point: int = 0, axis: int = 0
    ) -> int:
        """Add a tensor with data, int8 and int32 with the scales of an axis where they stand for reals."""
        self.buffers.append(AlignedBuffer(data=np.ascontiguousarray(array).reshape(-1).view(np.uint8)))
        scheme = None if scale is None else _scheme(scale, zero_point, axis)
        return self.tensor(array.shape, _KINDS[array.dtype.type], len(self.buffers) - 1, scheme=scheme)

    def integer_tensor(self, shape: tuple[int, ...], scheme: Quantization, name: str | None = None) -> int:
        """Add an int8 tensor and return its number."""
        packed = _scheme(np.array([scheme.scale], np.float32), scheme.zero_point, 0)
        return self.tensor(shape, schema.TensorType.INT8, name=name, scheme=packed)

    def like(self, source: int, shape: tuple[int, ...]) -> int:
        """Add a tensor of another shape for the same kind of numbers as another's."""
        return self.tensor(shape, self.tensors[source].type, scheme=self.tensors[source].quantization)

    def tensor(
        self, shape: tuple[int, ...], kind: int = 0, buffer: int = 0, name: str | None = None, scheme: Any = None
    ) -> int:
        """Add a tensor and return its number; `kind` 0 is float32."""
        name = name or f"tensor_{len(self.tensors)}"
        self.tensors.append(schema.TensorT(shape=list(shape), type=kind, buffer=buffer, name=name, quantization=scheme))
        return len(self.tensors) - 1

    def pack(self, source: Value, outputs: Sequence[Value]) -> bytes:
        """Return the finished file; the last output is the network's."""
        self.tensors[self.numbers[outputs[-1].name]].name = "output"
        graph = schema.SubGraphT(
            tensors=self.tensors,
            inputs=[self.numbers[source.name]],
            outputs=[self.numbers[output.name] for output in outputs],
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


_KINDS = {
    np.float32: schema.TensorType.FLOAT32,
    np.float16: schema.TensorType.FLOAT16,
    np.int8: schema.TensorType.INT8,
    np.int32: schema.TensorType.INT32,
}


def _scheme(scale: NDArray[np.float32], zero_point: int, axis: int) -> Any:
    """Return what a tensor's numbers stand for."""
    points = np.full(scale.shape, zero_point, np.int64)
    return schema.QuantizationParametersT(scale=scale, zeroPoint=points, quantizedDimension=axis)


def _pads_alike(node: Conv, axis: int) -> bool:
    """Whether SAME would pad one axis (0 height, 1 width) as torch does: equally, by as much, to the same size."""
    size, output = node.inputs[0].shape[2 + axis], node.output.shape[2 + axis]
    reach = node.dilation[axis] * (node.weight.shape[2 + axis] - 1)
    stride, padding = node.stride[axis], node.padding[axis]
    total = max((output - 1) * stride + reach + 1 - size, 0)
    return output == -(-size // stride) and total == 2 * padding
