"""onnx: written node by node with onnx.helper, NCHW, in an opset that runtimes several years old still load.

float32; and int8, operators between DequantizeLinear and QuantizeLinear that ONNX Runtime fuses into integer kernels.
"""

from collections.abc import Sequence

import numpy as np

from fbexport.formats import Format, unknown_operator
from fbexport.formats._onnx_int8 import IntegerModel
from fbexport.formats._onnx_model import OnnxModel, conv_attributes
from fbexport.graph import Activation, Binary, Conv, Graph, Linear, Mean, Node, Shuffle, Value
from fbexport.quantization.quantized import QuantizedGraph

_ACTIVATIONS: dict[str, tuple[str, dict[str, float]]] = {
    "relu": ("Relu", {}),
    "hswish": ("HardSwish", {}),
    "hsigmoid": ("HardSigmoid", {"alpha": 1 / 6, "beta": 0.5}),
    "sigmoid": ("Sigmoid", {}),
}


class Onnx(Format):
    """ONNX models: `input` of N, C, H, W, `output` of N, C, H, W or N, classes.

    An int8 model takes and gives uint8, the int8 numbers plus 128.
    """

    suffix = ".onnx"
    precisions = ("float32", "int8")

    def encode(self, graph: Graph, outputs: Sequence[Value], precision: str, quantized: QuantizedGraph | None) -> bytes:
        """Return an ONNX model."""
        model = _FloatModel(graph) if quantized is None else IntegerModel(quantized)
        for node in graph.nodes:
            model.add(node)
        content: bytes = model.finish(outputs).SerializeToString(deterministic=True)
        return content


class _FloatModel(OnnxModel):
    """A model in float32."""

    def add(self, node: Node) -> None:
        """Append the nodes of one operator."""
        names, output = [self.name(value) for value in node.inputs], self.name(node.output)
        match node:
            case Conv():
                raw = output if node.activation == "none" else f"{output}_raw"
                self.emit("Conv", [*names, *self.parameters(node)], raw, **conv_attributes(node))
                if node.activation != "none":
                    self.activation(node.activation, raw, output)
            case Linear():
                self.emit("Gemm", [*names, *self.parameters(node)], output, transB=1)
            case Activation():
                self.activation(node.function, names[0], output)
            case Binary():
                self.emit({"add": "Add", "mul": "Mul"}[node.operation], names, output)
            case Shuffle():
                self.shuffle(node, names[0], output)
            case Mean():
                self.emit("ReduceMean", names, output, axes=(2, 3), keepdims=int(node.keep_dims))
            case _:
                raise unknown_operator("onnx", node)

    def parameters(self, node: Conv | Linear) -> list[str]:
        """Add weights and biases."""
        output = self.name(node.output)
        return [self.constant(f"{output}_weight", node.weight), self.constant(f"{output}_bias", node.bias)]

    def activation(self, function: str, source: str, output: str) -> None:
        """Append an activation function; ReLU6 is a Clip."""
        if function == "relu6":
            low, high = np.zeros((), np.float32), np.full((), 6, np.float32)
            bounds = [self.constant(f"{output}_low", low), self.constant(f"{output}_high", high)]
            self.emit("Clip", [source, *bounds], output)
        else:
            kind, attributes = _ACTIVATIONS[function]
            self.emit(kind, [source], output, **attributes)
