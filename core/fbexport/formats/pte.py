"""pte: ExecuTorch programs that run in XNNPACK alone, written by their two schemas without ExecuTorch.

float32; and int8, integers from the first operator to the last with a scale for each channel of weights.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fbexport.formats import Format, unknown_operator
from fbexport.formats._first_kinds import check_first_kinds
from fbexport.formats._pte_program import End, program
from fbexport.formats._pte_xnnpack import Channels, Delegate
from fbexport.formats._xnnpack import SIXTH, THREE, of_relu6
from fbexport.graph import Activation, Binary, Conv, Graph, Linear, Mean, Node, Shuffle, Value
from fbexport.quantization.quantized import QuantizedGraph
from fbexport.quantization.scheme import UNIT, Quantization

_BOUNDS = {"none": None, "relu": (0.0, math.inf), "relu6": (0.0, 6.0)}
_KEEP_DIMENSIONS = 64


class Pte(Format):
    """ExecuTorch programs: input and output of N, C, H, W that lie in memory as N, H, W, C, or output of N, classes.

    So they need no transpositions, which apps that keep channels last do not pay either. An int8 model takes and gives
    float32, as the official exporter's does.
    """

    suffix = ".pte"
    precisions = ("float32", "int8")

    def encode(self, graph: Graph, outputs: Sequence[Value], precision: str, quantized: QuantizedGraph | None) -> bytes:
        """Return an ExecuTorch program."""
        check_first_kinds("pte", graph)
        model = _Model(quantized)
        model.begin(graph.input)
        for node in graph.nodes:
            model.add(node)
        for value in outputs:
            model.end(value)
        delegate = model.delegate.pack()
        return program([_end(graph.input)], [_end(value) for value in outputs], delegate, model.delegate.named)


class _Model:
    """Puts nodes into the delegate; `quantized` is what int8 numbers stand for."""

    def __init__(self, quantized: QuantizedGraph | None) -> None:
        self.quantized = quantized
        self.delegate = Delegate()
        self.numbers: dict[str, int] = {}

    def begin(self, value: Value) -> None:
        """Add the input, converted where the network computes in integers."""
        source = self.delegate.input(_shape(value))
        if self.quantized is None:
            self.numbers[value.name] = source
        else:
            self.delegate.emit("Convert", self.value(value), input_id=source)

    def end(self, value: Value) -> None:
        """Make a value an output, converted back."""
        number = self.numbers[value.name]
        if self.quantized is not None:
            number = self.delegate.emit("Convert", self.delegate.tensor(_shape(value)), input_id=number)
        self.delegate.output(number)

    def add(self, node: Node) -> None:
        """Append the nodes of one operator."""
        inputs, output = [self.numbers[value.name] for value in node.inputs], self.value(node.output)
        match node:
            case Conv():
                self.conv(node, inputs[0], output)
            case Linear():
                weight, bias = self.parameters(node, (0, 1))
                self.delegate.emit("FullyConnected", output, input1_id=inputs[0], filter_id=weight, bias_id=bias)
            case Activation():
                self.activation(node.function, inputs[0], output)
            case Binary():
                self.binary(node.operation, inputs[0], inputs[1], output)
            case Shuffle():
                self.shuffle(node, inputs[0], output)
            case Mean():
                n, c = node.output.shape[:2]
                mean = output if node.keep_dims else self.delegate.like(output, (n, 1, 1, c))
                self.delegate.emit("GlobalAvgPooling2d", mean, input_id=inputs[0], flags=_KEEP_DIMENSIONS)
                if not node.keep_dims:
                    self.reshape(mean, output)
            case _:
                raise unknown_operator("pte", node)

    def conv(self, node: Conv, source: int, output: int) -> None:
        """Append a convolution."""
        (top, left), channels = node.padding, len(node.bias) // node.groups
        axes = (1, 2, 3, 0) if node.is_depthwise else (0, 2, 3, 1)  # 1, kh, kw, O or O, kh, kw, I/groups
        weight, bias = self.parameters(node, axes)
        self.delegate.emit(
            "DepthwiseConv2d" if node.is_depthwise else "Conv2d",
            output,
            _BOUNDS[node.activation],
            padding_top=top, padding_right=left, padding_bottom=top, padding_left=left,
            kernel_height=node.weight.shape[2], kernel_width=node.weight.shape[3],
            subsampling_height=node.stride[0], subsampling_width=node.stride[1],
            dilation_height=node.dilation[0], dilation_width=node.dilation[1],
            group_input_channels=node.weight.shape[1], group_output_channels=channels, groups=node.groups,
            input1_id=source, filter_id=weight, bias_id=bias,
        )  # fmt: skip

    def parameters(self, node: Conv | Linear, axes: tuple[int, ...]) -> tuple[int, int]:
        """Add the weights with their axes in this order, and the biases; return their numbers."""
        if self.quantized is None:
            return self.delegate.constant(node.weight.transpose(axes)), self.delegate.constant(node.bias)
        made = self.quantized.parameters(node)
        scales = [np.broadcast_to(each, made.bias.shape).copy() for each in (made.weight_scale, made.bias_scale)]
        weight = self.delegate.constant(made.weight.transpose(axes), Channels(scales[0], axes.index(0)))
        return weight, self.delegate.constant(made.bias, Channels(scales[1], 0))

    def activation(self, function: str, source: int, output: int) -> None:
        """Append an activation function."""
        if function == "hsigmoid":
            self.hsigmoid(source, output)
        elif function == "hswish" and self.quantized is not None:  # XNNPACK has it in float only
            gate = self.delegate.tensor(self.delegate.tensors[source].shape, UNIT)
            self.hsigmoid(source, gate)
            self.binary("mul", source, gate, output)
        elif function in _BOUNDS:
            if self.quantized is not None:  # a clamp leaves the scale as it is
                source = self.delegate.emit("Convert", self.delegate.like(output, self.shape(output)), input_id=source)
            self.delegate.emit("Clamp", output, _BOUNDS[function], input_id=source)
        else:
            self.delegate.emit({"hswish": "Hardswish", "sigmoid": "Sigmoid"}[function], output, input_id=source)

    def hsigmoid(self, source: int, output: int) -> None:
        """Append relu6(x + 3) / 6."""
        read = self.delegate.tensors[source].scheme
        scheme = of_relu6(read.scale) if isinstance(read, Quantization) else None
        clipped = self.delegate.tensor(self.shape(source), scheme)
        self.binary("add", source, self.number(*THREE), clipped, _BOUNDS["relu6"])
        self.binary("mul", clipped, self.number(*SIXTH), output)

    def number(self, value: NDArray[np.float32], scheme: Quantization) -> int:
        """Add a constant of one number."""
        if self.quantized is None:
            return self.delegate.operand(value, None)
        return self.delegate.operand(scheme.quantize(value), scheme)

    def binary(
        self, operation: str, first: int, second: int, output: int, bounds: tuple[float, float] | None = None
    ) -> None:
        """Append a sum or a product."""
        kind = {"add": "Add", "mul": "Multiply"}[operation]
        self.delegate.emit(kind, output, bounds, input1_id=first, input2_id=second)

    def shuffle(self, node: Shuffle, source: int, output: int) -> None:
        """Append a channel shuffle: split the channels into groups, swap the two axes, join them again."""
        n, c, h, w = node.output.shape
        split, swapped = (n, h * w, node.groups, c // node.groups), (n, h * w, c // node.groups, node.groups)
        groups = self.reshape(source, self.delegate.like(source, split))
        turned = self.delegate.like(source, swapped)
        self.delegate.emit("StaticTranspose", turned, num_dims=4, perm=(0, 1, 3, 2), input_id=groups)
        self.reshape(turned, output)

    def reshape(self, source: int, output: int) -> int:
        """Append a reshape to the shape of `output`."""
        shape = self.shape(output)
        return self.delegate.emit("StaticReshape", output, num_dims=len(shape), new_shape=shape, input_id=source)

    def value(self, value: Value) -> int:
        """Add the tensor of a value and return its number."""
        scheme = None if self.quantized is None else self.quantized.of(value)
        self.numbers[value.name] = number = self.delegate.tensor(_shape(value), scheme)
        return number

    def shape(self, number: int) -> tuple[int, ...]:
        """Return a tensor's shape, NHWC."""
        return self.delegate.tensors[number].shape


def _shape(value: Value) -> tuple[int, ...]:
    """Return a value's shape as it lies in memory."""
    return (value.shape[0], *value.shape[2:], value.shape[1])


def _end(value: Value) -> End:
    return End(value.shape, (0, 2, 3, 1) if len(value.shape) == 4 else tuple(range(len(value.shape))))
