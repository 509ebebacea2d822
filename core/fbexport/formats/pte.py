"""pte: ExecuTorch programs that run in XNNPACK alone, written by their two schemas without ExecuTorch.

float32; and int8, integers from the first operator to the last with a scale for each channel of weights.
"""

import math
from collections.abc import Sequence

import numpy as np

from fbexport.formats import Format
from fbexport.formats._layout import NHWC, usual
from fbexport.formats._pte_operators import KEEP_DIMENSIONS, Operators
from fbexport.formats._pte_program import End, program
from fbexport.formats._pte_xnnpack import Channels
from fbexport.formats._xnnpack import SIXTH, THREE, of_relu6
from fbexport.graph import Activation, Conv, Graph, Linear, Mean, Node, Shuffle, Value
from fbexport.quantization.quantized import QuantizedGraph
from fbexport.quantization.scheme import UNIT

_BOUNDS = {"none": None, "relu": (0.0, math.inf), "relu6": (0.0, 6.0)}


class Pte(Format):
    """ExecuTorch programs: input and output of N, C, H, W that lie in memory as N, H, W, C, or output of N, classes.

    So they need no transpositions, which apps that keep channels last do not pay either. An int8 model takes and gives
    float32, as the official exporter's does.
    """

    suffix = ".pte"
    precisions = ("float32", "int8")

    def encode(self, graph: Graph, outputs: Sequence[Value], precision: str, quantized: QuantizedGraph | None) -> bytes:
        """Return an ExecuTorch program."""
        model = _Model(quantized)
        for value in graph.inputs:
            model.begin(value)
        for node in graph.nodes:
            model.add(node)
        for value in outputs:
            model.end(value)
        delegate = model.delegate.pack()
        return program([*map(_end, graph.inputs)], [*map(_end, outputs)], delegate, model.delegate.named)


class _Model(Operators):
    """Writes the operators of the graph; what is particular to the newer ones is in `_pte_operators`."""

    def add(self, node: Node) -> None:
        """Append the nodes of one operator."""
        match node:
            case Conv():
                self.conv(node, *self.ends(node, NHWC))
            case Linear():
                source, order = self.along(node.inputs[0], len(node.output.shape) - 1)
                weight, bias = self.parameters(node, (0, 1))
                output = self.value(node.output, order)
                self.delegate.emit("FullyConnected", output, input1_id=source, filter_id=weight, bias_id=bias)
            case Activation(function="hsigmoid"):
                self.hsigmoid(*self.ends(node))
            case Activation(function="hswish") if self.quantized is not None:  # XNNPACK has it in float only
                source, output = self.ends(node)
                gate = self.delegate.tensor(self.shape(source), UNIT)
                self.hsigmoid(source, gate)
                self.step("mul", source, gate, output)
            case Activation(function="relu" | "relu6" | "clamp"):
                source, output = self.ends(node)
                low, high = _BOUNDS.get(node.function) or node.parameters
                # A clamp leaves the scale as it is.
                self.delegate.emit("Clamp", output, (low, high), input_id=self.requantized(source, output))
            case Shuffle():
                self.shuffle(node, *self.ends(node, NHWC))
            case Mean():
                n, c = node.output.shape[:2]
                source, output = self.read(node.inputs[0], NHWC), self.value(node.output)
                mean = output if node.keep_dims else self.like(output, (n, 1, 1, c))
                self.unary("GlobalAvgPooling2d", source, mean, flags=KEEP_DIMENSIONS)
                if not node.keep_dims:
                    self.reshape(mean, output)
            case _:
                self.more(node)

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

    def hsigmoid(self, source: int, output: int) -> None:
        """Append relu6(x + 3) / 6: XNNPACK has no operator of its own for it."""
        read = self.scheme(source)
        clipped = self.delegate.tensor(self.shape(source), None if read is None else of_relu6(read.scale))
        self.step("add", source, self.known(*THREE), clipped, _BOUNDS["relu6"])
        self.step("mul", clipped, self.known(*SIXTH), output)

    def shuffle(self, node: Shuffle, source: int, output: int) -> None:
        """Append a channel shuffle: split the channels into groups, swap the two axes, join them again."""
        n, c, h, w = node.output.shape
        split, swapped = (n, h * w, node.groups, c // node.groups), (n, h * w, c // node.groups, node.groups)
        groups = self.reshape(source, self.like(source, split))
        self.reshape(self.turn(groups, (0, 1, 3, 2), self.like(source, swapped)), output)


def _end(value: Value) -> End:
    return End(value.shape, usual(value.shape))
