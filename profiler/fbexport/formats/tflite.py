"""tflite: a flatbuffer written operator by operator with the schema classes of ai-edge-litert, NHWC."""

from typing import Any

import flatbuffers
import numpy as np
from numpy.typing import NDArray
from torch import nn

from fbexport.errors import ExportError
from fbexport.formats import check_precision, unknown_operator
from fbexport.graph import Activation, Binary, Conv, Linear, Mean, Node, Shuffle, Value
from fbexport.trace import trace

try:
    from ai_edge_litert import schema_py_generated as schema
except ModuleNotFoundError as error:
    raise ExportError(
        "writing .tflite files needs the package ai-edge-litert, which holds the format's schema (tflite-runtime does "
        "not): pip install ai-edge-litert. Where it has no wheel, export on another machine"
    ) from error

SUFFIX = ".tflite"
RUNTIMES = ("litert",)

_OP = schema.BuiltinOperator
_FUSED = {
    "none": schema.ActivationFunctionType.NONE,
    "relu": schema.ActivationFunctionType.RELU,
    "relu6": schema.ActivationFunctionType.RELU6,
}
_FUNCTIONS = {"relu": _OP.RELU, "relu6": _OP.RELU6, "hswish": _OP.HARD_SWISH, "sigmoid": _OP.LOGISTIC}
_GROUPED_CONV_VERSION = 6


def write(module: nn.Module, input_shape: tuple[int, int, int, int], precision: str) -> bytes:
    """Return a TFLite model of an eval-mode module: `input` of N, H, W, C, `output` of N, H, W, C or N, classes.

    Raises ExportError.
    """
    check_precision(precision)
    graph = trace(module, input_shape)
    model = _Model()
    model.value(graph.input)
    for node in graph.nodes:
        model.add(node)
    return model.pack(graph.input.name, graph.output.name)


class _Model:
    """Collects the tensors and operators of a TFLite model."""

    def __init__(self) -> None:
        self.tensors: list[Any] = []
        self.operators: list[Any] = []
        self.codes: dict[tuple[int, int], int] = {}
        self.buffers: list[Any] = [schema.BufferT()]  # number 0 is empty by convention: tensors without data name it
        self.numbers: dict[str, int] = {}

    def add(self, node: Node) -> None:
        """Append the operators of one node."""
        inputs, output = [self.numbers[value.name] for value in node.inputs], self.value(node.output)
        match node:
            case Conv():
                self.conv(node, inputs[0], output)
            case Linear():
                constants = [self.constant(node.weight), self.constant(node.bias)]
                self.emit(_OP.FULLY_CONNECTED, inputs + constants, output, schema.FullyConnectedOptionsT())
            case Activation(function="hsigmoid"):
                self.hsigmoid(inputs[0], output)
            case Activation():
                options = schema.HardSwishOptionsT() if node.function == "hswish" else None
                self.emit(_FUNCTIONS[node.function], inputs, output, options)
            case Binary():
                self.binary(node.operation, inputs, output)
            case Shuffle():
                self.shuffle(node, inputs[0], output)
            case Mean():
                axes = self.constant(np.array([1, 2], np.int32))
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
            amounts = self.constant(np.array([[0, 0], [ph, ph], [pw, pw], [0, 0]], np.int32))
            padded = self.tensor((node.inputs[0].shape[0], height + 2 * ph, width + 2 * pw, channels))
            source = self.emit(_OP.PAD, [source, amounts], padded, schema.PadOptionsT())
        settings: dict[str, Any] = {
            "padding": schema.Padding.SAME if same else schema.Padding.VALID,
            "strideH": node.stride[0],
            "strideW": node.stride[1],
            "fusedActivationFunction": _FUSED[node.activation],
        }
        if node.is_depthwise:
            weight, code, version = node.weight.transpose(1, 2, 3, 0), _OP.DEPTHWISE_CONV_2D, 1  # 1, kh, kw, O
            options = schema.DepthwiseConv2DOptionsT(depthMultiplier=len(node.bias) // channels, **settings)
        else:
            weight, code = node.weight.transpose(0, 2, 3, 1), _OP.CONV_2D  # O, kh, kw, I/groups
            version = _GROUPED_CONV_VERSION if node.groups > 1 else 1
            options = schema.Conv2DOptionsT(**settings)
        self.emit(code, [source, self.constant(weight), self.constant(node.bias)], output, options, version)

    def hsigmoid(self, source: int, output: int) -> None:
        """Append relu6(x + 3) / 6; TFLite has no operator of its own for it."""
        shape = self.tensors[source].shape
        three, sixth = self.constant(np.array([3], np.float32)), self.constant(np.array([1 / 6], np.float32))
        clipped = self.binary("add", [source, three], self.tensor(tuple(shape)), "relu6")
        self.binary("mul", [clipped, sixth], output)

    def binary(self, operation: str, inputs: list[int], output: int, activation: str = "none") -> int:
        """Append a sum or a product."""
        code, options = (_OP.ADD, schema.AddOptionsT) if operation == "add" else (_OP.MUL, schema.MulOptionsT)
        return self.emit(code, inputs, output, options(fusedActivationFunction=_FUSED[activation]))

    def shuffle(self, node: Shuffle, source: int, output: int) -> None:
        """Append a channel shuffle: split the channels into groups, swap the two axes, join them again."""
        n, c, h, w = node.output.shape
        split, swapped = (n, h * w, node.groups, c // node.groups), (n, h * w, c // node.groups, node.groups)
        groups = self.reshape(source, self.tensor(split))
        order = self.constant(np.array([0, 1, 3, 2], np.int32))
        turned = self.emit(_OP.TRANSPOSE, [groups, order], self.tensor(swapped), schema.TransposeOptionsT())
        self.reshape(turned, output)

    def reshape(self, source: int, output: int) -> int:
        """Append a reshape to the shape of `output`."""
        shape = self.constant(np.array(self.tensors[output].shape, np.int32))
        return self.emit(_OP.RESHAPE, [source, shape], output, schema.ReshapeOptionsT())

    def emit(self, code: int, inputs: list[int], output: int, options: Any = None, version: int = 1) -> int:
        """Append one operator and return its output."""
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
        shape = value.shape
        self.numbers[value.name] = self.tensor((shape[0], *shape[2:], shape[1]), name=value.name)
        return self.numbers[value.name]

    def constant(self, array: NDArray[Any]) -> int:
        """Add a tensor with data and return its number."""
        self.buffers.append(_AlignedBuffer(data=np.ascontiguousarray(array).reshape(-1).view(np.uint8)))
        kind = schema.TensorType.INT32 if array.dtype == np.int32 else schema.TensorType.FLOAT32
        return self.tensor(array.shape, kind, len(self.buffers) - 1)

    def tensor(self, shape: tuple[int, ...], kind: int = 0, buffer: int = 0, name: str | None = None) -> int:
        """Add a tensor and return its number; `kind` 0 is float32."""
        name = name or f"tensor_{len(self.tensors)}"
        self.tensors.append(schema.TensorT(shape=list(shape), type=kind, buffer=buffer, name=name))
        return len(self.tensors) - 1

    def pack(self, source: str, output: str) -> bytes:
        """Return the finished file."""
        self.tensors[self.numbers[output]].name = "output"
        graph = schema.SubGraphT(
            tensors=self.tensors,
            inputs=[self.numbers[source]],
            outputs=[self.numbers[output]],
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
        data = sum(buffer.data.size for buffer in self.buffers[1:])
        builder = flatbuffers.Builder(data + 1024 * len(self.tensors))
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())


class _AlignedBuffer(schema.BufferT):  # type: ignore[misc]  # the schema classes have no types
    """Data aligned to 16 bytes, as the schema demands and its generated Python classes forget."""

    def Pack(self, builder: Any) -> Any:  # noqa: N802  # the base class's name
        builder.Prep(16, self.data.size)
        return super().Pack(builder)


def _pads_alike(node: Conv, axis: int) -> bool:
    """Whether SAME would pad one axis (0 height, 1 width) as torch does: equally, by as much, to the same size."""
    size, output = node.inputs[0].shape[2 + axis], node.output.shape[2 + axis]
    kernel, stride, padding = node.weight.shape[2 + axis], node.stride[axis], node.padding[axis]
    total = max((output - 1) * stride + kernel - size, 0)
    return output == -(-size // stride) and total == 2 * padding
