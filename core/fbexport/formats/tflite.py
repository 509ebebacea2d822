"""tflite: a flatbuffer written operator by operator with the schema classes of ai-edge-litert, NHWC.

float32; float16, whose weights are half as large and widened when the model is loaded; and int8, all integer from input
to output (TFLite's 8-bit quantisation specification).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fbexport.formats import Format
from fbexport.formats._float16 import in_float16
from fbexport.formats._layout import NHWC
from fbexport.formats._tflite_model import OP
from fbexport.formats._tflite_operators import Operators
from fbexport.formats._xnnpack import SIXTH, THREE, of_relu6
from fbexport.graph import Activation, Conv, Graph, Linear, Mean, Node, Shuffle, Value
from fbexport.quantization.quantized import QuantizedGraph
from fbexport.quantization.scheme import UNIT
from fbmodel.flatbuffer import schema

_FUSED = {
    "none": schema.ActivationFunctionType.NONE,
    "relu": schema.ActivationFunctionType.RELU,
    "relu6": schema.ActivationFunctionType.RELU6,
}
_FUNCTIONS = {"relu": OP.RELU, "relu6": OP.RELU6, "hswish": OP.HARD_SWISH, "sigmoid": OP.LOGISTIC}
_GROUPED_CONV_VERSION = 6
_HALF_DEQUANTIZE_VERSION = 3


class TfLite(Format):
    """TFLite models: `input` of N, H, W, C, `output` of N, H, W, C or N, classes."""

    suffix = ".tflite"
    precisions = ("float32", "float16", "int8")

    def encode(self, graph: Graph, outputs: Sequence[Value], precision: str, quantized: QuantizedGraph | None) -> bytes:
        """Return a TFLite model."""
        model = _Model(precision, quantized)
        for value in graph.inputs:
            model.value(value)
        for node in graph.nodes:
            model.add(node)
        return model.pack(graph, outputs)


class _Model(Operators):
    """Writes the operators of the graph; what is particular to the newer ones is in `_tflite_operators`."""

    def add(self, node: Node) -> None:
        """Append the operators of one node."""
        if getattr(node, "activation", getattr(node, "function", "")) in ("relu", "relu6", "sigmoid", "hsigmoid"):
            self.not_negative.add(node.output.name)
        match node:
            case Conv():
                self.conv(node, *self.ends(node, NHWC))
            case Linear():
                self.linear(node)
            case Activation(function="hsigmoid"):
                self.hsigmoid(*self.ends(node))
            case Activation(function="hswish") if self.quantized is not None:
                self.int8_hswish(*self.ends(node))
            case Activation() if node.function in _FUNCTIONS:
                source, output = self.ends(node)
                options = schema.HardSwishOptionsT() if node.function == "hswish" else None
                self.emit(_FUNCTIONS[node.function], [source], output, options)
            case Shuffle():
                self.shuffle(node, *self.ends(node, NHWC))
            case Mean():
                source = self.read(node.inputs[0], NHWC)
                output, axes = self.value(node.output), self.integers([1, 2])
                self.emit(OP.MEAN, [source, axes], output, schema.ReducerOptionsT(keepDims=node.keep_dims))
            case _:
                self.more(node)

    def linear(self, node: Linear) -> None:
        """Append a fully connected layer; the axes before the last may lie in any order."""
        source, order = self.along(node.inputs[0], len(node.output.shape) - 1)
        output, options = self.value(node.output, order), schema.FullyConnectedOptionsT()
        if len(order) > 2:
            options.keepNumDims = True
        self.emit(OP.FULLY_CONNECTED, [source, *self.parameters(node)], output, options)

    def conv(self, node: Conv, source: int, output: int) -> None:
        """Append a convolution.

        TFLite's own padding (SAME) equals torch's only where it is the same on both sides, which is always so for
        stride 1; elsewhere zeros are added explicitly, which costs no measurable time.
        """
        channels, (ph, pw) = node.inputs[0].shape[1], node.padding
        same = _pads_alike(node, 0) and _pads_alike(node, 1)
        if not same and (ph or pw):
            source = self.padded(source, [(0, 0), (ph, ph), (pw, pw), (0, 0)], 0.0)
        settings: dict[str, Any] = {
            "padding": schema.Padding.SAME if same else schema.Padding.VALID,
            "strideH": node.stride[0],
            "strideW": node.stride[1],
            "dilationHFactor": node.dilation[0],
            "dilationWFactor": node.dilation[1],
            "fusedActivationFunction": _FUSED[node.activation],
        }
        if node.is_depthwise:
            axes, code = (1, 2, 3, 0), OP.DEPTHWISE_CONV_2D  # 1, kh, kw, O
            version = 1 if node.dilation == (1, 1) else 2
            options = schema.DepthwiseConv2DOptionsT(depthMultiplier=len(node.bias) // channels, **settings)
        else:
            axes, code = (0, 2, 3, 1), OP.CONV_2D  # O, kh, kw, I/groups
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
        return self.emit(OP.DEQUANTIZE, [half], wide, options, _HALF_DEQUANTIZE_VERSION)

    def hsigmoid(self, source: int, output: int) -> None:
        """Append relu6(x + 3) / 6; TFLite has no operator of its own for it."""
        shape = self.shape(source)
        if self.quantized is None:
            middle = self.tensor(shape)
        else:
            middle = self.integer_tensor(shape, of_relu6(float(self.tensors[source].quantization.scale[0])))
        clipped = self.step("add", source, self.known(*THREE), middle, fusedActivationFunction=_FUSED["relu6"])
        self.step("mul", clipped, self.known(*SIXTH), output)

    def int8_hswish(self, source: int, output: int) -> None:
        """Append x · hsigmoid(x).

        XNNPACK has no int8 HARD_SWISH, and TFLite's own is slow: a block of 16x56x56, expansion 4, took 2287 µs with it
        on an AMD EPYC, and 562 µs so.
        """
        gate = self.integer_tensor(self.shape(source), UNIT)
        self.hsigmoid(source, gate)
        self.step("mul", source, gate, output)

    def shuffle(self, node: Shuffle, source: int, output: int) -> None:
        """Append a channel shuffle: split the channels into groups, swap the two axes, join them again."""
        n, c, h, w = node.output.shape
        split, swapped = (n, h * w, node.groups, c // node.groups), (n, h * w, c // node.groups, node.groups)
        groups = self.reshape(source, self.like(source, split))
        order = self.integers([0, 1, 3, 2])
        turned = self.emit(OP.TRANSPOSE, [groups, order], self.like(source, swapped), schema.TransposeOptionsT())
        self.reshape(turned, output)


def _pads_alike(node: Conv, axis: int) -> bool:
    """Whether SAME would pad one axis (0 height, 1 width) as torch does: equally, by as much, to the same size."""
    size, output = node.inputs[0].shape[2 + axis], node.output.shape[2 + axis]
    reach = node.dilation[axis] * (node.weight.shape[2 + axis] - 1)
    stride, padding = node.stride[axis], node.padding[axis]
    total = max((output - 1) * stride + reach + 1 - size, 0)
    return output == -(-size // stride) and total == 2 * padding
