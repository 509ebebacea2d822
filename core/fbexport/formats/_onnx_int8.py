"""An int8 model in ONNX: operators between QuantizeLinear and DequantizeLinear, in the forms that have integer kernels.

Weights are signed and symmetric, values are unsigned: a value's number is its int8 number plus 128, with a zero point
128 higher, and stands for the same real. ONNX Runtime's x86 kernels take only unsigned values. It rewrites signed ones
where a single operator reads them, but not where two do (residual blocks, squeeze-excite) nor at the network's ends:
there it would compute in float. ARM's kernels take both.

x86 processors that lack VNNI add two products in 16 bits, where large ones do not fit. Latencies are those of the file
all the same, but outputs are right only with the session option `session.x64quantprecision`: the mean signal-to-noise
ratio of operators with random weights is 27 dB without it and 35 dB with it. Weights of 7 bits would give 33 dB on
every processor.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from fbexport.formats import unknown_operator
from fbexport.formats._onnx_model import OnnxModel, conv_attributes
from fbexport.graph import Activation, Binary, Concat, Constant, Conv, Linear, Mean, Node, Shuffle, Value
from fbexport.quantization.quantized import QuantizedGraph
from fbexport.quantization.scheme import QMAX, QMIN, SIGMOID, UNIT, UNSIGNED, Quantization

_HALF = Quantization(0.5 / 255, -128)
_ZERO = Quantization(1.0, -128)


class IntegerModel(OnnxModel):
    """A model whose values are integers; each is read through a DequantizeLinear of its own, which fusing needs."""

    kind = TensorProto.UINT8

    def __init__(self, quantized: QuantizedGraph) -> None:
        super().__init__(quantized.graph)
        self.quantized = quantized

    def add(self, node: Node) -> None:
        """Append the nodes of one operator."""
        value, output, scheme = node.inputs[0], self.name(node.output), self.quantized.of(node.output)
        match node:
            case Conv():
                self.saturated(node.activation, "Conv", self.weighted(node), output, scheme, **conv_attributes(node))
            case Linear() if len(node.output.shape) == 2:
                self.integer("Gemm", self.weighted(node), output, scheme, transB=1)
            case Activation(function="sigmoid"):
                self.integer("Sigmoid", [self.real(value, output)], output, scheme)
            case Activation(function="hsigmoid"):
                self.hsigmoid(value, output)
            case Activation(function="hswish"):
                gate = self.hsigmoid(value, f"{output}_gate")
                factors = [self.real(value, output), self.dequantized(gate, UNIT, f"{gate}_real")]
                self.integer("Mul", factors, output, scheme)
            case Activation(function="silu"):
                gate = self.integer("Sigmoid", [self.real(value, f"{output}_gate")], f"{output}_gate", SIGMOID)
                factors = [self.real(value, output), self.dequantized(gate, SIGMOID, f"{gate}_real")]
                self.integer("Mul", factors, output, scheme)
            case Activation(function="leaky_relu"):
                self.integer("LeakyRelu", [self.real(value, output)], output, scheme, alpha=node.parameters[0])
            case Concat():
                reals = [self.real(each, f"{output}_input{i}") for i, each in enumerate(node.inputs)]
                self.integer("Concat", reals, output, scheme, axis=node.axis)
            case Activation(function="relu" | "relu6"):
                # The sum with 0 rounds to other steps in one integer kernel; Relu, twice as slow, has none.
                zero = self.number(0, _ZERO, f"{output}_zero")
                self.saturated(node.function, "Add", [self.real(value, output), zero], output, scheme)
            case Binary(operation="add" | "mul"):
                reals = [self.real(each, f"{output}_input{i}") for i, each in enumerate(node.inputs)]
                self.integer({"add": "Add", "mul": "Mul"}[node.operation], reals, output, scheme)
            case Shuffle():
                self.shuffle(node, self.name(value), output)
            case Mean():  # there is no integer kernel for ReduceMean
                pooled = output if node.keep_dims else f"{output}_pooled"
                self.integer("GlobalAveragePool", [self.real(value, output)], pooled, scheme)
                if not node.keep_dims:
                    self.reshape(pooled, node.output.shape, output)
            case _ if node.output == self.quantized.graph.output:  # what it stands for is told at the network's end
                if not self.rearrange(node, [self.real(value, output)], f"{output}_result"):
                    raise unknown_operator("onnx", node, "int8")
                self.emit("QuantizeLinear", [f"{output}_result", *self.scheme(scheme, output)], output)
            case _ if not self.rearrange(node, [self.name(value)], output):
                raise unknown_operator("onnx", node, "int8")

    def metadata(self) -> dict[str, str]:
        """Return what the numbers that go in and come out stand for: real = scale · (number − zero point)."""
        found = {}
        for name, value in (("input", self.graph.input), ("output", self.graph.output)):
            scheme = self.quantized.of(value)
            found[f"{name}_scale"] = repr(float(np.float32(scheme.scale)))
            found[f"{name}_zero_point"] = str(scheme.zero_point + UNSIGNED)
        return found

    def hsigmoid(self, value: Value, output: str) -> str:
        """Append x / 6 + 0.5, held between 0 and 1 by the ends of its numbers; x / 6 is x with a sixth of its scale.

        With the product that makes a hard swish of it, 136 µs for 1x96x56x56 and 50 µs for 1x480x14x14; HardSwish in
        float between integers takes 370 and 103 µs (onnxruntime 1.31, one thread of an EPYC with AVX2, medians).
        """
        scheme = self.quantized.of(value)
        sixth = Quantization(scheme.scale / 6, scheme.zero_point)
        summands = [
            self.dequantized(self.name(value), sixth, f"{output}_sixth"),
            self.number(0.5, _HALF, f"{output}_half"),
        ]
        return self.integer("Add", summands, output, UNIT)

    def saturated(
        self, function: str, kind: str, reals: list[str], output: str, scheme: Quantization, **attributes: Any
    ) -> None:
        """Append an operator and the ReLU or ReLU6 after it.

        Where the numbers of the result begin at 0 (and end by 6), their ends are the function; else they are clipped as
        integers.
        """
        low, high = (int(end) for end in scheme.quantize(np.array([0.0, 6.0])))
        high = high if function == "relu6" else QMAX
        if function == "none" or (low, high) == (QMIN, QMAX):
            self.integer(kind, reals, output, scheme, **attributes)
            return
        raw = self.integer(kind, reals, f"{output}_raw", scheme, **attributes)
        ends = [self.constant(f"{output}_{name}", _unsigned(end)) for name, end in (("low", low), ("high", high))]
        self.emit("Clip", [raw, *ends], output)

    def weighted(self, node: Conv | Linear) -> list[str]:
        """Return what a convolution or a fully connected layer reads: its input, weights and biases."""
        output, made = self.name(node.output), self.quantized.parameters(node)
        single = isinstance(node, Linear)
        names = [self.real(node.inputs[0], output)]
        for name, numbers, scale in (("weight", made.weight, made.weight_scale), ("bias", made.bias, made.bias_scale)):
            scale = scale.reshape(()) if single else scale
            inputs = [
                self.constant(f"{output}_{name}", numbers),
                self.constant(f"{output}_{name}_scale", scale),
                self.constant(f"{output}_{name}_zero_point", np.zeros(scale.shape, numbers.dtype)),
            ]
            axis = {} if single else {"axis": 0}
            names.append(self.emit("DequantizeLinear", inputs, f"{output}_{name}_real", **axis))
        return names

    def number(self, value: float, scheme: Quantization, name: str) -> str:
        """Add a constant of one number and return the name of its real."""
        integer = int(scheme.quantize(np.array(value)))
        return self.dequantized(self.constant(name, _unsigned(integer)), scheme, f"{name}_real")

    def real(self, value: Value, reader: str) -> str:
        """Read a value for one reader."""
        if isinstance(value, Constant):
            scheme = self.quantized.of(value)
            numbers = (scheme.quantize(value.array).astype(np.int16) + UNSIGNED).astype(np.uint8)
            return self.dequantized(self.constant(f"{reader}_number", numbers), scheme, f"{reader}_input")
        return self.dequantized(self.name(value), self.quantized.of(value), f"{reader}_input")

    def dequantized(self, source: str, scheme: Quantization, output: str) -> str:
        """Append a DequantizeLinear."""
        return self.emit("DequantizeLinear", [source, *self.scheme(scheme, output)], output)

    def integer(self, kind: str, reals: list[str], output: str, scheme: Quantization, **attributes: Any) -> str:
        """Append an operator and the QuantizeLinear that it is fused with."""
        made = self.emit(kind, reals, f"{output}_result", **attributes)
        return self.emit("QuantizeLinear", [made, *self.scheme(scheme, output)], output)

    def scheme(self, scheme: Quantization, name: str) -> list[str]:
        """Add a scale and a zero point."""
        scale = self.constant(f"{name}_scale", np.array(scheme.scale, np.float32))
        return [scale, self.constant(f"{name}_zero_point", _unsigned(scheme.zero_point))]


def _unsigned(integer: int) -> NDArray[np.uint8]:
    """Return an int8 number as the unsigned one for the same real."""
    return np.array(integer + UNSIGNED, np.uint8)
