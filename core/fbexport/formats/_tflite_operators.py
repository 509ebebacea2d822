"""Operators of TFLite models beyond those of the first networks: each works in the order in which its input lies."""

import math
from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np

from fbexport.errors import ExportError, module_name
from fbexport.formats import unknown_operator
from fbexport.formats._layout import NHWC, without
from fbexport.formats._pooling import missing
from fbexport.formats._tflite_model import OP, TfLiteModel
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
from fbexport.quantization.scheme import SIGMOID
from fbmodel.flatbuffer import schema

_LOWEST = float(np.finfo(np.float32).min)
_UNARY = {"tanh": OP.TANH, "exp": OP.EXP, "sqrt": OP.SQRT, "abs": OP.ABS, "elu": OP.ELU}
_BINARY: dict[str, tuple[int, Any]] = {
    "add": (OP.ADD, schema.AddOptionsT),
    "mul": (OP.MUL, schema.MulOptionsT),
    "sub": (OP.SUB, schema.SubOptionsT),
    "div": (OP.DIV, schema.DivOptionsT),
    "maximum": (OP.MAXIMUM, schema.MaximumMinimumOptionsT),
    "minimum": (OP.MINIMUM, schema.MaximumMinimumOptionsT),
    "prelu": (OP.PRELU, None),
}
_REDUCE = {"mean": OP.MEAN, "sum": OP.SUM, "max": OP.REDUCE_MAX}


class Operators(TfLiteModel):
    """Writes the newer operators."""

    def more(self, node: Node) -> None:
        """Append the operators of one node. Raises ExportError where there are none."""
        if self.quantized is not None and not _has_int8(node):
            raise unknown_operator("tflite", node, "int8")
        match node:
            case Activation():
                self.activation(node)
            case Binary():
                self.operation(node)
            case MatMul():
                self.matmul(node)
            case Softmax():
                source, order = self.along(node.inputs[0], node.axis)
                self.emit(OP.SOFTMAX, [source], self.value(node.output, order), schema.SoftmaxOptionsT(beta=1.0))
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
                source, order = self.lying(node.inputs[0])
                self.padded(source, [node.amounts[axis] for axis in order], node.number, self.value(node.output, order))
            case Concat():
                self.concat(node)
            case Slice():
                self.slice(node)
            case Reshape():
                self.reshaped(node)
            case Transpose():
                self.permuted(node)
            case Expand():
                source, order = self.lying(node.inputs[0])
                output = self.value(node.output, order)
                shape = self.integers(self.tensors[output].shape)
                self.emit(OP.BROADCAST_TO, [source, shape], output, schema.BroadcastToOptionsT(), version=2)
            case _:
                raise unknown_operator("tflite", node)

    def step(self, kind: str, first: int, second: int, output: int | None = None, **settings: Any) -> int:
        """Append an operation on two tensors; without an output its result is one like the first."""
        if output is None:
            output = self.like(first)
        code, options = _BINARY[kind]
        return self.emit(code, [first, second], output, options and options(**settings))

    def activation(self, node: Activation) -> None:
        """Append a function."""
        (source, output), function = self.ends(node), node.function
        match function:
            case "silu":
                shape = self.shape(source)
                gate = self.tensor(shape) if self.quantized is None else self.integer_tensor(shape, SIGMOID)
                self.step("mul", source, self.emit(OP.LOGISTIC, [source], gate), output)
            case "gelu" | "gelu_tanh":
                self.emit(OP.GELU, [source], output, schema.GeluOptionsT(approximate=function == "gelu_tanh"))
            case "leaky_relu":
                self.emit(OP.LEAKY_RELU, [source], output, schema.LeakyReluOptionsT(alpha=node.parameters[0]))
            case "clamp":
                self.clamp(source, node.parameters, output)
            case "elu" if node.parameters[0] != 1:  # max(x, 0) + alpha · elu(min(x, 0))
                low = self.step("minimum", source, self.single(0.0))
                bent = self.emit(OP.ELU, [low], self.like(source))
                scaled = self.step("mul", bent, self.single(node.parameters[0]))
                self.step("add", scaled, self.step("maximum", source, self.single(0.0)), output)
            case _:
                self.emit(_UNARY[function], [source], output)

    def clamp(self, source: int, bounds: Sequence[float], output: int) -> None:
        """Append a maximum, a minimum, or both."""
        kinds = [
            (kind, bound) for kind, bound in zip(("maximum", "minimum"), bounds, strict=True) if abs(bound) < math.inf
        ]
        for kind, bound in kinds[:-1]:
            source = self.step(kind, source, self.single(bound))
        self.step(kinds[-1][0], source, self.single(kinds[-1][1]), output)

    def single(self, number: float) -> int:
        """Add a constant of one number."""
        return self.known(np.array(number, np.float32))

    def operation(self, node: Binary) -> None:
        """Append an operation on two values, in the order in which the larger one lies."""
        (first, second), output, _ = self.joined(node)
        self.step(node.operation, first, second, output)

    def matmul(self, node: MatMul) -> None:
        """Append a product of matrices; either may lie with its last two axes swapped."""
        inputs, swapped = self.matrices(node, (True, True))
        options = schema.BatchMatMulOptionsT(adjX=swapped[0], adjY=swapped[1])
        self.emit(OP.BATCH_MATMUL, inputs, self.value(node.output, tuple(range(len(node.output.shape)))), options)

    def reduce(self, node: Reduce) -> None:
        """Append a mean, a sum or a maximum."""
        source, order = self.lying(node.inputs[0])
        at = [place for place, axis in enumerate(order) if axis in node.axes]
        left = order if node.keep_dims else without(order, node.axes)
        options = schema.ReducerOptionsT(keepDims=node.keep_dims)
        self.emit(_REDUCE[node.operation], [source, self.integers(at)], self.value(node.output, left), options)

    def norm(self, node: Norm) -> None:
        """Append a normalisation step by step: there is no operator for it."""
        source, order = self.lying(node.inputs[0])
        at = self.integers([place for place, axis in enumerate(order) if axis in node.axes])
        small = tuple(1 if axis in node.axes else node.output.shape[axis] for axis in order)
        output, keep = self.value(node.output, order), schema.ReducerOptionsT(keepDims=True)
        mean = self.emit(OP.MEAN, [source, at], self.like(source, small), keep)
        apart = self.step("sub", source, mean)
        variance = self.emit(OP.MEAN, [self.step("mul", apart, apart), at], self.like(source, small), keep)
        kept = self.step("add", variance, self.single(node.epsilon))
        factor = self.emit(OP.RSQRT, [kept], self.like(source, small))
        self.normalized(node, apart, factor, order, output)

    def conv_transpose(self, node: ConvTranspose) -> None:
        """Append a transposed convolution: of all pixels it reaches, of which padding is cut off.

        TFLite has none with groups: each is written by itself.
        """
        (n, c, h, w), (_, outputs, height, width) = node.inputs[0].shape, node.output.shape
        (sh, sw), (kh, kw) = node.stride, node.weight.shape[2:]
        if node.dilation != (1, 1) or any(more > less for more, less in zip(node.extra, node.padding, strict=True)):
            where = module_name(node.source)
            raise ExportError(
                f"format 'tflite' cannot write operator ConvTranspose of {where} with a dilation, or with more output "
                "padding than padding; onnx can"
            )
        source = self.read(node.inputs[0], NHWC)
        full = ((h - 1) * sh + kh, (w - 1) * sw + kw)
        parts = []
        for group in range(node.groups):
            inner, outer = c // node.groups, outputs // node.groups
            part = source
            if node.groups > 1:
                part = self.cut(source, (0, 0, 0, group * inner), (n, h, w, inner))
            weight = node.weight[group * inner : (group + 1) * inner].transpose(1, 2, 3, 0)
            inputs = [self.integers((n, *full, outer)), self.constant(np.ascontiguousarray(weight)), part]
            options = schema.TransposeConvOptionsT(
                padding=schema.Padding.VALID, strideH=sh, strideW=sw,
                fusedActivationFunction=schema.ActivationFunctionType.NONE,
            )  # fmt: skip
            bias = self.constant(node.bias[group * outer : (group + 1) * outer])
            whole = self.like(source, (n, *full, outer))
            parts.append(self.emit(OP.TRANSPOSE_CONV, [*inputs, bias], whole, options, version=3))
        output = self.value(node.output)
        is_whole = full == (height, width)
        joined = parts[0]
        if node.groups > 1:
            target = output if is_whole else self.like(source, (n, *full, outputs))
            joined = self.emit(OP.CONCATENATION, parts, target, schema.ConcatenationOptionsT(axis=3))
        if not is_whole:
            self.cut(joined, (0, *node.padding, 0), (n, height, width, outputs), output)
        elif node.groups == 1:
            self.operators[-1].outputs = [output]

    def cut(self, source: int, begin: Sequence[int], size: Sequence[int], output: int | None = None) -> int:
        """Append a slice without steps."""
        output = self.like(source, tuple(size)) if output is None else output
        inputs = [source, self.integers(list(begin)), self.integers(list(size))]
        return self.emit(OP.SLICE, inputs, output, schema.SliceOptionsT())

    def pool(self, node: Pool) -> None:
        """Append pooling, padded beforehand where TFLite's own padding is another.

        There means count what was put around as zeros: they are multiplied by what is missing.
        """
        source, output = self.ends(node, NHWC)
        (kh, kw), (sh, sw), (top, left, bottom, right) = node.kernel, node.stride, node.padding
        options = schema.Pool2DOptionsT(
            padding=schema.Padding.VALID, strideH=sh, strideW=sw, filterHeight=kh, filterWidth=kw,
            fusedActivationFunction=schema.ActivationFunctionType.NONE,
        )  # fmt: skip
        code = OP.MAX_POOL_2D if node.operation == "max" else OP.AVERAGE_POOL_2D
        if any(node.padding):
            sizes = zip(node.inputs[0].shape[2:], node.output.shape[2:], node.kernel, node.stride, strict=True)
            pads = ((top, bottom), (left, right))
            if node.dilation == (1, 1) and all(_is_same(*each, *ends) for each, ends in zip(sizes, pads, strict=True)):
                options.padding = schema.Padding.SAME
                self.emit(code, [source], output, options)
                return
            around = ((0, 0), *pads, (0, 0))
            is_lowest = node.operation == "average" or node.inputs[0].name in self.not_negative
            source = self.padded(source, around, 0.0 if is_lowest else _LOWEST)
        if node.dilation != (1, 1):
            self.dilated_pool(node, source, output)
        elif node.operation == "average" and any(node.padding):
            pooled = self.emit(code, [source], self.like(output), options)
            self.step("mul", pooled, self.known(missing(node)), output)
        else:
            self.emit(code, [source], output, options)

    def dilated_pool(self, node: Pool, source: int, output: int) -> None:
        """Append the largest of slices, one for each place of the window."""
        (n, c, height, width), (sh, sw), (dh, dw) = node.output.shape, node.stride, node.dilation
        largest = None
        places = list(product(range(node.kernel[0]), range(node.kernel[1])))
        for row, column in places:
            begin = (0, row * dh, column * dw, 0)
            end = (n, row * dh + (height - 1) * sh + 1, column * dw + (width - 1) * sw + 1, c)
            part = self.strided(source, begin, end, (1, sh, sw, 1), self.like(source, (n, height, width, c)))
            is_last = (row, column) == places[-1]
            largest = part if largest is None else self.step("maximum", largest, part, output if is_last else None)

    def padded(self, source: int, amounts: Sequence[tuple[int, int]], number: float, output: int | None = None) -> int:
        """Append padding with a number."""
        around = self.integers([list(ends) for ends in amounts])
        if output is None:
            shape = [size + sum(ends) for size, ends in zip(self.tensors[source].shape, amounts, strict=True)]
            output = self.like(source, tuple(shape))
        if number == 0:
            return self.emit(OP.PAD, [source, around], output, schema.PadOptionsT())
        scheme = self.tensors[source].quantization
        if self.quantized is None:
            filling = self.known(np.array(number, np.float32))
        else:  # the lowest there is
            filling = self.constant(np.array(-128, np.int8), scheme.scale, zero_point=int(scheme.zeroPoint[0]))
        return self.emit(OP.PADV2, [source, around, filling], output, schema.PadV2OptionsT())

    def resize(self, node: Resize) -> None:
        """Append a resize."""
        source, output = self.ends(node, NHWC)
        size = self.integers(node.output.shape[2:])
        if node.mode == "nearest":
            self.emit(OP.RESIZE_NEAREST_NEIGHBOR, [source, size], output, schema.ResizeNearestNeighborOptionsT())
            return
        align = node.align_corners
        options = schema.ResizeBilinearOptionsT(alignCorners=align, halfPixelCenters=not align)
        self.emit(OP.RESIZE_BILINEAR, [source, size], output, options, version=3)

    def concat(self, node: Concat) -> None:
        """Append a concatenation; in int8 all have the numbers of the output."""
        inputs, output, order = self.joined(node)
        if self.quantized is not None:
            inputs = [self.requantized(each, output) for each in inputs]
        options = schema.ConcatenationOptionsT(axis=order.index(node.axis))
        self.emit(OP.CONCATENATION, inputs, output, options)

    def requantized(self, source: int, other: int) -> int:
        """Return a tensor in the numbers of another."""
        ours, theirs = (self.tensors[each].quantization for each in (source, other))
        if (ours.scale[0], ours.zeroPoint[0]) == (theirs.scale[0], theirs.zeroPoint[0]):
            return source
        target = self.like(other, tuple(self.tensors[source].shape))
        return self.emit(OP.QUANTIZE, [source], target, schema.QuantizeOptionsT())

    def slice(self, node: Slice) -> None:
        """Append a slice."""
        source, order = self.lying(node.inputs[0])
        output = self.value(node.output, order)
        begin, end, steps = ([each[axis] for axis in order] for each in (node.starts, node.stops, node.steps))
        if any(step != 1 for step in steps):
            self.strided(source, begin, end, steps, output)
        else:
            self.cut(source, begin, self.tensors[output].shape, output)

    def strided(self, source: int, begin: Sequence[int], end: Sequence[int], steps: Sequence[int], output: int) -> int:
        """Append a slice in steps."""
        inputs = [source, *(self.integers(list(each)) for each in (begin, end, steps))]
        return self.emit(OP.STRIDED_SLICE, inputs, output, schema.StridedSliceOptionsT())


def _has_int8(node: Node) -> bool:
    """Whether there are integer kernels for an operator."""
    match node:
        case Activation():
            return node.function in ("silu", "gelu", "gelu_tanh", "leaky_relu", "tanh")
        case Binary():
            return node.operation in ("add", "mul", "sub", "prelu")
        case Reduce():
            return node.operation != "max"
        case Pad():
            return node.number == 0
        case Norm() | ConvTranspose():
            return False
        case _:
            return True


def _is_same(size: int, made: int, kernel: int, stride: int, before: int, after: int) -> bool:
    """Whether TFLite's own padding of an axis is this one."""
    total = max((made - 1) * stride + kernel - size, 0)
    return made == -(-size // stride) and (before, after) == (total // 2, total - total // 2)
