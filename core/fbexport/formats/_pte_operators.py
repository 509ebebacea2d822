"""Operators of ExecuTorch programs beyond those of the first networks: each works as its input lies."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from fbexport.formats import unknown_operator
from fbexport.formats._layout import NHWC, without
from fbexport.formats._pooling import missing
from fbexport.formats._pte_model import MOST_AXES, PteModel
from fbexport.formats._pte_xnnpack import Channels
from fbexport.graph import (
    Activation,
    Binary,
    Concat,
    ConvTranspose,
    Expand,
    MatMul,
    Node,
    Norm,
    Pad,
    Pool,
    Reduce,
    Reshape,
    Resize,
    Slice,
    Softmax,
    Transpose,
)  # fmt: skip
from fbexport.quantization.scheme import SIGMOID, WEIGHT_MAX, Quantization

KEEP_DIMENSIONS = 64
_TRANSPOSED_SECOND = 1
_UNARY = {
    "sigmoid": "Sigmoid", "tanh": "Tanh", "gelu": "Gelu", "exp": "Exp", "sqrt": "SquareRoot", "abs": "Abs",
    "hswish": "Hardswish", "gelu_tanh": "Gelu",
}  # fmt: skip
"""`gelu_tanh` in int8, whose steps are larger than what the two forms differ by."""


class Operators(PteModel):
    """Writes the newer operators."""

    def more(self, node: Node) -> None:
        """Append the nodes of one operator. Raises UnknownOperatorError where there are none."""
        if max(len(value.shape) for value in (*node.inputs, node.output)) > MOST_AXES:
            raise unknown_operator("pte", node)
        if self.quantized is not None and not _has_int8(node):
            raise unknown_operator("pte", node, "int8")
        match node:
            case Activation():
                self.function(node)
            case Binary():
                (first, second), output, _ = self.joined(node)
                self.step(node.operation, first, second, output)
            case MatMul():
                self.matmul(node)
            case Softmax():
                source, order = self.along(node.inputs[0], node.axis)
                self.unary("Softmax", source, self.value(node.output, order))
            case Reduce():
                self.reduce(node)
            case Norm():
                self.norm(node)
            case ConvTranspose():
                self.conv_transpose(node)
            case Pool():
                self.pool(node)
            case Resize():
                self.resize(node)
            case Pad():
                self.pad(node)
            case Concat():
                self.concat(node)
            case Slice():
                self.slice(node)
            case Reshape():
                self.reshaped(node)
            case Transpose():
                self.permuted(node)
            case Expand():
                self.expand(node)
            case _:
                raise unknown_operator("pte", node)

    def function(self, node: Activation) -> None:
        """Append a function of every number."""
        source, output = self.ends(node)
        match node.function:
            case "silu":
                gate = (
                    self.like(source) if self.quantized is None else self.delegate.tensor(self.shape(source), SIGMOID)
                )
                self.step("mul", source, self.unary("Sigmoid", source, gate), output)
            case "gelu_tanh" if self.quantized is None:  # x · sigmoid(2 √(2 / π) (x + 0.044715 x³))
                slope = 2 * math.sqrt(2 / math.pi)
                bent = self.step("mul", self.unary("Square", source), self.single(0.044715 * slope))
                bent = self.step("mul", self.step("add", bent, self.single(slope)), source)
                self.step("mul", source, self.unary("Sigmoid", bent), output)
            case "elu":
                self.unary("ELU", source, output, alpha=float(node.parameters[0]))
            case "leaky_relu":
                self.unary("LeakyReLU", source, output, negative_slope=float(node.parameters[0]))
            case _:
                self.unary(_UNARY[node.function], source, output)

    def matmul(self, node: MatMul) -> None:
        """Append a product of matrices; the second may lie with its last two axes swapped."""
        (first, second), (_, is_turned) = self.matrices(node, (False, True))
        output = self.value(node.output, tuple(range(len(node.output.shape))))
        flags = _TRANSPOSED_SECOND if is_turned else 0
        self.delegate.emit("BatchMatrixMultiply", output, input1_id=first, input2_id=second, flags=flags)

    def reduce(self, node: Reduce) -> None:
        """Append a mean, a sum or a maximum."""
        source, order = self.lying(node.inputs[0])
        left = order if node.keep_dims else without(order, node.axes)
        output = self.value(node.output, left)
        count, scheme = math.prod(node.inputs[0].shape[axis] for axis in node.axes), self.scheme(output)
        if node.operation == "sum" and scheme is not None:
            scheme = replace(scheme, scale=scheme.scale / count)
        small = self.reduced(source, [order.index(axis) for axis in node.axes], node.operation, scheme)
        if node.operation == "sum":
            small = self.step("mul", small, self.single(count), self.like(output, self.shape(small)))
        self.reshape(self.requantized(small, output), output)

    def reduced(
        self, source: int, places: Sequence[int], operation: str = "mean", scheme: Quantization | None = None
    ) -> int:
        """Append means or maxima over some axes of a tensor, which have size 1 then; means in the numbers of a scheme.

        XNNPACK has them over the second and third of four axes: axes are joined to be these, those which lie apart one
        after the other. A mean over the last is a product with a matrix of one row, which takes numbers as they lie;
        axes before it go first, since a long row is slow (a normalisation of one group took four times as long).
        """
        runs: list[list[int]] = []
        for place in sorted(places):
            if runs and runs[-1][-1] == place - 1 and place < len(self.shape(source)) - 1:
                runs[-1].append(place)
            else:
                runs.append([place])
        for axes in runs:
            shape = self.shape(source)
            parts = shape[: axes[0]], shape[axes[0] : axes[-1] + 1], shape[axes[-1] + 1 :]
            before, size, after = map(math.prod, parts)
            if size == 1:
                continue
            if operation == "mean" or operation == "sum":
                small = self.mean(source, (before, size, after), scheme if axes is runs[-1] else self.scheme(source))
            else:
                apart, small = self.shaped(source, (before, size, 1, after)), self.like(source, (before, 1, 1, after))
                window = {"pooling_height": size, "pooling_width": 1, "stride_height": 1, "stride_width": 1}
                dilation = {"dilation_height": 1, "dilation_width": 1}
                self.unary("MaxPooling2d", apart, small, **window, **dilation, flags=KEEP_DIMENSIONS)
            source = self.shaped(small, tuple(1 if at in axes else each for at, each in enumerate(shape)))
        return source

    def mean(self, source: int, parts: Sequence[int], scheme: Quantization | None) -> int:
        """Append a mean over the middle of three axes that a tensor is seen to have."""
        before, size, after = parts
        small = self.delegate.tensor((before, 1, 1, after), scheme)
        if after > 1 or scheme is not None:
            apart = self.shaped(source, (before, size, 1, after))
            return self.unary("GlobalAvgPooling2d", apart, small, flags=KEEP_DIMENSIONS)
        apart = self.shaped(source, (before, 1, 1, size))
        weight = self.delegate.constant(np.full((1, size), 1 / size, np.float32))
        bias = self.delegate.constant(np.zeros(1, np.float32))
        return self.delegate.emit("FullyConnected", small, input1_id=apart, filter_id=weight, bias_id=bias)

    def norm(self, node: Norm) -> None:
        """Append a normalisation step by step: there is no operator for it."""
        source, order = self.lying(node.inputs[0])
        places, output = [order.index(axis) for axis in node.axes], self.value(node.output, order)
        apart = self.step("sub", source, self.reduced(source, places))
        variance = self.reduced(self.unary("Square", apart), places)
        factor = self.unary("ReciprocalSquareRoot", self.step("add", variance, self.single(node.epsilon)))
        self.normalized(node, apart, factor, order, output)

    def conv_transpose(self, node: ConvTranspose) -> None:
        """Append a transposed convolution."""
        source, output = self.ends(node, NHWC)
        (top, left), (kh, kw), groups = node.padding, node.weight.shape[2:], node.groups
        inner, outer = len(node.weight) // groups, node.weight.shape[1]
        split = node.weight.reshape(groups, inner, outer, kh, kw).transpose(0, 2, 3, 4, 1)
        self.delegate.emit(
            "ConvTranspose2d",
            output,
            padding_top=top, padding_right=left, padding_bottom=top, padding_left=left,
            kernel_height=kh, kernel_width=kw, subsampling_height=node.stride[0], subsampling_width=node.stride[1],
            dilation_height=node.dilation[0], dilation_width=node.dilation[1],
            adjustment_height=node.extra[0], adjustment_width=node.extra[1],
            group_input_channels=inner, group_output_channels=outer, groups=groups,
            input1_id=source, filter_id=self.delegate.constant(split.reshape(-1, kh, kw, inner)),
            bias_id=self.delegate.constant(node.bias),
        )  # fmt: skip

    def pool(self, node: Pool) -> None:
        """Append pooling; of single pixels it is a slice."""
        source, output = self.ends(node, NHWC)
        (kh, kw), (sh, sw), (top, left, bottom, right) = node.kernel, node.stride, node.padding
        if node.kernel == (1, 1) and not any(node.padding):
            self.sliced(source, (0, 0, 0, 0), (1, sh, sw, 1), output)
            return
        padding = {"padding_top": top, "padding_right": right, "padding_bottom": bottom, "padding_left": left}
        dilation = {"dilation_height": node.dilation[0], "dilation_width": node.dilation[1]}
        if node.operation == "average" and self.quantized is not None:
            self.averaged(node, source, output)
            return
        kind = "MaxPooling2d" if node.operation == "max" else "AvgPooling2d"
        window = {"pooling_height": kh, "pooling_width": kw, "stride_height": sh, "stride_width": sw}
        self.unary(kind, source, output, **padding, **window, **dilation, flags=KEEP_DIMENSIONS)

    def averaged(self, node: Pool, source: int, output: int) -> None:
        """Append a mean of int8 pixels: for XNNPACK a convolution of equal weights, with padding as zeros."""
        (kh, kw), (sh, sw), (top, left, bottom, right) = node.kernel, node.stride, node.padding
        channels, mean = node.output.shape[1], self.like(output) if any(node.padding) else output
        scale = np.full(channels, 1 / (WEIGHT_MAX * kh * kw), np.float32)
        weight = self.delegate.constant(np.full((1, kh, kw, channels), WEIGHT_MAX, np.int8), Channels(scale, 3))
        bias_scale = (scale * np.float32(self.scheme(source).scale)).astype(np.float32)
        self.delegate.emit(
            "DepthwiseConv2d",
            mean,
            padding_top=top, padding_right=right, padding_bottom=bottom, padding_left=left,
            kernel_height=kh, kernel_width=kw, subsampling_height=sh, subsampling_width=sw,
            dilation_height=1, dilation_width=1, groups=channels, group_input_channels=1, group_output_channels=1,
            input1_id=source, filter_id=weight,
            bias_id=self.delegate.constant(np.zeros(channels, np.int32), Channels(bias_scale, 0)),
        )  # fmt: skip
        if any(node.padding):
            self.step("mul", mean, self.known(missing(node)), output)


def _has_int8(node: Node) -> bool:
    """Whether there are integer kernels for an operator."""
    if isinstance(node, Pad):
        return node.number == 0  # another number may lie outside of the input's range
    return not isinstance(node, MatMul | Softmax | Norm | ConvTranspose)
