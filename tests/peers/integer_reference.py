"""An int8 model file computed in numpy, from the file alone: what its runtimes are compared with.

A real number is an integer times a scale. Convolutions, fully connected layers, means and products multiply and add the
integers exactly (in int64; matrix products in float64, where integers below 2^53 are exact too). Only what is left, the
product of an operator's scales, is applied in float64, and rounded to the nearest integer, halves to the even one.
Runtimes round halves away from zero, or multiply by a rounded scale in float32 or as a 32-bit fraction: they may differ
by one where a result lies that near a half. `given` replaces values by a runtime's own after they were computed, so
that such differences do not add up from operator to operator.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from ai_edge_litert import schema_py_generated as schema
from numpy.lib.stride_tricks import sliding_window_view
from onnx import numpy_helper

OPERATORS = {code: name for name, code in vars(schema.BuiltinOperator).items() if name.isupper()}
FUSED = {code: name for name, code in vars(schema.ActivationFunctionType).items() if name.isupper()}
LIMITS = {np.int8: (-128, 127), np.uint8: (0, 255)}
Given = Mapping[str, Any] | None


@dataclass(frozen=True)
class Real:
    """Numbers of int64 (of float64 after a function that is not linear), and what one stands for."""

    numbers: Any
    scale: Any = 1.0

    def floats(self):
        return self.numbers * self.scale


@dataclass(frozen=True)
class Scheme:
    """How a tensor's integers stand for reals; `scale` may hold one for each index of an axis."""

    scale: Any
    zero_point: int
    kind: type

    def real(self, integers, axis=0):
        shape = [-1 if i == axis else 1 for i in range(integers.ndim)] if np.size(self.scale) > 1 else ()
        return Real(integers.astype(np.int64) - self.zero_point, np.reshape(self.scale, shape).astype(np.float64))

    def integers(self, real, function="NONE"):
        """Round to integers and clip, to a fused activation's ends too."""
        low, high = LIMITS[self.kind]
        if function in ("RELU", "RELU6"):
            low = max(low, self.zero_point)
        if function == "RELU6":
            high = min(high, self.zero_point + round(6 / float(np.squeeze(self.scale))))
        rounded = np.rint(real.numbers * (real.scale / float(np.squeeze(self.scale)))) + self.zero_point
        return np.clip(rounded, low, high).astype(self.kind)


def convolution(x, weight, bias, strides, pads, groups):
    """Convolve N, C, H, W with O, I/groups, kh, kw; `pads` are top, left, bottom, right. Zeros are exact."""
    n, channels, _, _ = x.numbers.shape
    out, kernel = len(weight.numbers), weight.numbers.shape[2:]
    padded = np.pad(x.numbers, ((0, 0), (0, 0), (pads[0], pads[2]), (pads[1], pads[3])))
    windows = sliding_window_view(padded, kernel, (2, 3))[:, :, :: strides[0], :: strides[1]]
    height, width = windows.shape[2:4]
    columns = windows.reshape(n, groups, channels // groups, height * width, -1).transpose(1, 2, 4, 0, 3)
    columns = columns.reshape(groups, -1, n * height * width).astype(np.float64)
    sums = weight.numbers.reshape(groups, out // groups, -1).astype(np.float64) @ columns
    sums = sums.reshape(out, n, height, width).transpose(1, 0, 2, 3).astype(np.int64)
    scale = np.reshape(x.scale * np.ravel(weight.scale), (-1, 1, 1))
    return biased(sums, scale, bias, (-1, 1, 1))


def fully_connected(x, weight, bias):
    """Multiply N, I with O, I."""
    return biased(x.numbers @ weight.numbers.T, x.scale * weight.scale, bias, (-1,))


def biased(sums, scale, bias, shape):
    """Add a bias whose scale must be that of the sums, which must fit into int32."""
    np.testing.assert_allclose(np.ravel(bias.scale), np.ravel(scale), rtol=1e-6)
    total = sums + bias.numbers.reshape(shape)
    assert np.abs(total).max() < 2**31
    return Real(total, scale)


def total(a, b):
    return Real(a.floats() + b.floats())


def product(a, b):
    return Real(a.numbers * b.numbers, a.scale * b.scale)


def mean(x, axes, keep_dims):
    count = np.prod([x.numbers.shape[axis] for axis in axes])
    return Real(x.numbers.sum(axes, keepdims=keep_dims), x.scale / count)


def function_of(x, function: Callable[[Any], Any]):
    return Real(function(x.floats()))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def hard_swish(x):
    return x * np.clip(x + 3, 0, 6) / 6


def run_tflite(content: bytes, x, given: Given = None) -> dict[str, Any]:
    """Return every tensor that operators make, by name, for an int8 input in the file's own layout (NHWC)."""
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    graph = model.subgraphs[0]
    kinds = {schema.TensorType.INT8: np.int8, schema.TensorType.INT32: np.int32}
    values: dict[int, Any] = {graph.inputs[0]: x}
    schemes: dict[int, Scheme] = {}
    axes: dict[int, int] = {}
    for i, tensor in enumerate(graph.tensors):
        data = model.buffers[tensor.buffer].data
        if data is not None and i not in values:
            values[i] = np.asarray(data, np.uint8).view(kinds[tensor.type]).reshape(tensor.shape)
        if tensor.quantization is not None:
            points = set(np.ravel(tensor.quantization.zeroPoint).tolist())
            assert len(points) == 1
            schemes[i] = Scheme(np.asarray(tensor.quantization.scale), points.pop(), kinds[tensor.type])
            axes[i] = tensor.quantization.quantizedDimension
    made = {}
    for operator in graph.operators:
        name, options = OPERATORS[model.operatorCodes[operator.opcodeIndex].builtinCode], operator.builtinOptions
        output = operator.outputs[0]
        reals = {i: schemes[i].real(values[i], axes[i]) for i in operator.inputs if i in schemes}
        result = _tflite(name, options, operator.inputs, reals, values, schemes, graph.tensors[output].shape)
        if isinstance(result, Real):
            fused = FUSED[getattr(options, "fusedActivationFunction", 0)]
            result = schemes[output].integers(result, {"RELU": "RELU", "RELU6": "RELU6"}.get(name, fused))
        label = graph.tensors[output].name.decode()
        made[label] = result
        values[output] = given.get(label, result) if given else result
    return made


def _tflite(name, options, inputs, reals, values, schemes, shape):
    """Return an operator's result as reals, or as integers where it only moves them."""
    x = reals[inputs[0]]
    match name:
        case "CONV_2D" | "DEPTHWISE_CONV_2D":
            weight, size = reals[inputs[1]], x.numbers.shape[1:3]
            axes = (0, 3, 1, 2) if name == "CONV_2D" else (3, 0, 1, 2)
            channels = x.numbers.shape[3]
            weight = Real(weight.numbers.transpose(axes), weight.scale)
            strides, kernel = (options.strideH, options.strideW), weight.numbers.shape[2:]
            pads = [0, 0, 0, 0]
            if options.padding == schema.Padding.SAME:
                for i in range(2):
                    needed = max((shape[1 + i] - 1) * strides[i] + kernel[i] - size[i], 0)
                    pads[i], pads[2 + i] = needed // 2, needed - needed // 2
            groups = channels // weight.numbers.shape[1]
            image = Real(x.numbers.transpose(0, 3, 1, 2), x.scale)
            y = convolution(image, weight, reals[inputs[2]], strides, pads, groups)
            return Real(y.numbers.transpose(0, 2, 3, 1), np.ravel(y.scale))
        case "FULLY_CONNECTED":
            return fully_connected(x, reals[inputs[1]], reals[inputs[2]])
        case "ADD":
            return total(x, reals[inputs[1]])
        case "MUL":
            return product(x, reals[inputs[1]])
        case "MEAN":
            return mean(x, tuple(values[inputs[1]].tolist()), options.keepDims)
        case "LOGISTIC":
            return function_of(x, sigmoid)
        case "HARD_SWISH":
            return function_of(x, hard_swish)
        case "RELU" | "RELU6":
            return x
        case "RESHAPE":
            return values[inputs[0]].reshape(shape)
        case "TRANSPOSE":
            return values[inputs[0]].transpose(values[inputs[1]])
        case "PAD":
            return np.pad(values[inputs[0]], values[inputs[1]], constant_values=schemes[inputs[0]].zero_point)
    raise NotImplementedError(name)


def run_onnx(content: bytes, x, given: Given = None) -> dict[str, Any]:
    """Return every integer tensor that nodes make, by name, for an input of the file's own kind."""
    graph = onnx.load_from_string(content).graph
    values: dict[str, Any] = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    values[graph.input[0].name] = x
    made = {}
    for node in graph.node:
        options = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
        result = _onnx(node.op_type, options, [values[name] for name in node.input])
        if not isinstance(result, Real):
            made[node.output[0]] = result
            result = given.get(node.output[0], result) if given else result
        values[node.output[0]] = result
    return made


def _onnx(name, options, inputs):
    match name:
        case "DequantizeLinear":
            integers, scale, points = inputs
            assert len(set(np.ravel(points).tolist())) == 1
            assert integers.dtype == points.dtype
            return Scheme(scale, int(np.ravel(points)[0]), integers.dtype.type).real(integers, options.get("axis", 1))
        case "QuantizeLinear":
            real, scale, point = inputs
            return Scheme(scale, int(point), point.dtype.type).integers(real)
        case "Conv":
            return convolution(*inputs, options["strides"], options["pads"], options["group"])
        case "Gemm":
            assert options == {"transB": 1}
            return fully_connected(*inputs)
        case "Add":
            return total(*inputs)
        case "Mul":
            return product(*inputs)
        case "GlobalAveragePool":
            return mean(inputs[0], (2, 3), True)
        case "Sigmoid":
            return function_of(inputs[0], sigmoid)
        case "Clip":
            return np.clip(*inputs)
        case "Reshape":
            return inputs[0].reshape(inputs[1])
        case "Transpose":
            return inputs[0].transpose(options["perm"])
    raise NotImplementedError(name)
