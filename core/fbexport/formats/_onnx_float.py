"""A float32 model in ONNX, operator by operator."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fbexport.formats import unknown_operator
from fbexport.formats._onnx_model import OnnxModel, conv_attributes, pool_attributes
from fbexport.graph import (
    Activation,
    Binary,
    Concat,
    Conv,
    ConvTranspose,
    Linear,
    MatMul,
    Mean,
    Node,
    Norm,
    Pad,
    Pool,
    Reduce,
    Resize,
    Shuffle,
    Softmax,
)  # fmt: skip

_ACTIVATIONS: dict[str, tuple[str, dict[str, float]]] = {
    "relu": ("Relu", {}),
    "hswish": ("HardSwish", {}),
    "hsigmoid": ("HardSigmoid", {"alpha": 1 / 6, "beta": 0.5}),
    "sigmoid": ("Sigmoid", {}),
    "tanh": ("Tanh", {}),
    "exp": ("Exp", {}),
    "sqrt": ("Sqrt", {}),
    "abs": ("Abs", {}),
}
_BINARY = {
    "add": "Add", "mul": "Mul", "sub": "Sub", "div": "Div", "maximum": "Max", "minimum": "Min", "prelu": "PRelu",
}  # fmt: skip
_REDUCE = {"mean": "ReduceMean", "max": "ReduceMax"}


class FloatModel(OnnxModel):
    """A model in float32."""

    def add(self, node: Node) -> None:
        """Append the nodes of one operator."""
        names, output = [self.name(value) for value in node.inputs], self.name(node.output)
        match node:
            case Conv():
                raw = output if node.activation == "none" else f"{output}_raw"
                self.emit("Conv", [*names, *self.parameters(node)], raw, **conv_attributes(node))
                if node.activation != "none":
                    self.activation(node.activation, (), raw, output)
            case Linear() if len(node.output.shape) == 2:
                self.emit("Gemm", [*names, *self.parameters(node)], output, transB=1)
            case Linear():
                weight = self.constant(f"{output}_weight", np.ascontiguousarray(node.weight.T))
                product = self.emit("MatMul", [*names, weight], f"{output}_product")
                self.emit("Add", [product, self.constant(f"{output}_bias", node.bias)], output)
            case Activation():
                self.activation(node.function, node.parameters, names[0], output)
            case Binary():
                self.emit(_BINARY[node.operation], names, output)
            case Shuffle():
                self.shuffle(node, names[0], output)
            case Mean():
                self.emit("ReduceMean", names, output, axes=(2, 3), keepdims=int(node.keep_dims))
            case ConvTranspose():
                self.conv_transpose(node, names, output)
            case MatMul():
                self.emit("MatMul", names, output)
            case Softmax():
                self.emit("Softmax", names, output, axis=node.axis)
            case Reduce(operation="sum"):  # its axes became an input before the others'
                self.emit("ReduceSum", [*names, self.integers(node.axes, output)], output, keepdims=int(node.keep_dims))
            case Reduce():
                self.emit(_REDUCE[node.operation], names, output, axes=node.axes, keepdims=int(node.keep_dims))
            case Norm():
                self.norm(node, names[0], output)
            case _:
                self.moving(node, names, output)

    def moving(self, node: Node, names: list[str], output: str) -> None:
        """Append an operator that moves pixels, or takes some of them."""
        match node:
            case Pool(operation="average"):
                self.emit("AveragePool", names, output, **pool_attributes(node))
            case Resize():
                self.resize(node, names[0], output)
            case Pad():
                amounts = self.integers(np.transpose(node.amounts).reshape(-1), output)
                number = self.constant(f"{output}_number", np.array(self.filling(node), np.float32))
                self.emit("Pad", [*names, amounts, number], output)
            case Concat():
                self.emit("Concat", names, output, axis=node.axis)
            case _ if not self.rearrange(node, names, output):
                raise unknown_operator("onnx", node)

    def filling(self, node: Pad) -> float:
        """Return what to pad with: almost 0 before max pooling, into which ONNX Runtime fuses zeros as -infinity."""
        is_pooled = any(isinstance(each, Pool) and node.output in each.inputs for each in self.graph.nodes)
        return node.number or (float(np.finfo(np.float32).tiny) if is_pooled else 0.0)

    def parameters(self, node: Conv | ConvTranspose | Linear) -> list[str]:
        """Add weights and biases."""
        output = self.name(node.output)
        return [self.constant(f"{output}_weight", node.weight), self.constant(f"{output}_bias", node.bias)]

    def activation(self, function: str, parameters: Sequence[float], source: str, output: str) -> None:
        """Append an activation function; ReLU6 is a Clip, GELU is put together as ONNX Runtime recognises it."""
        match function:
            case "relu6":
                self.clip(0.0, 6.0, source, output)
            case "clamp":
                self.clip(parameters[0], parameters[1], source, output)
            case "elu":
                self.emit("Elu", [source], output, alpha=parameters[0])
            case "leaky_relu":
                self.emit("LeakyRelu", [source], output, alpha=parameters[0])
            case "silu":
                self.emit("Mul", [source, self.emit("Sigmoid", [source], f"{output}_gate")], output)
            case "gelu":
                part = self.emit("Div", [source, self.number(2**0.5, f"{output}_root")], f"{output}_part")
                self.gelu(source, self.emit("Erf", [part], f"{output}_erf"), output)
            case "gelu_tanh":
                square = self.emit("Mul", [source, source], f"{output}_square")
                share = self.emit("Mul", [square, self.number(0.044715, f"{output}_a")], f"{output}_share")
                more = self.emit("Add", [share, self.number(1.0, f"{output}_b")], f"{output}_more")
                scaled = self.emit("Mul", [source, self.number((2 / np.pi) ** 0.5, f"{output}_c")], f"{output}_scaled")
                inner = self.emit("Mul", [scaled, more], f"{output}_inner")
                self.gelu(source, self.emit("Tanh", [inner], f"{output}_tanh"), output)
            case _:
                kind, attributes = _ACTIVATIONS[function]
                self.emit(kind, [source], output, **attributes)

    def gelu(self, source: str, bent: str, output: str) -> None:
        """Append x · (1 + bent) / 2."""
        gate = self.emit("Add", [bent, self.number(1.0, f"{output}_one")], f"{output}_gate")
        gated = self.emit("Mul", [source, gate], f"{output}_gated")
        self.emit("Mul", [gated, self.number(0.5, f"{output}_half")], output)

    def clip(self, low: float, high: float, source: str, output: str) -> None:
        """Append a Clip."""
        bounds = [self.number(low, f"{output}_low"), self.number(high, f"{output}_high")]
        self.emit("Clip", [source, *bounds], output)

    def conv_transpose(self, node: ConvTranspose, names: list[str], output: str) -> None:
        """Append a transposed convolution."""
        attributes: dict[str, Any] = {"dilations": node.dilation, "output_padding": node.extra, "group": node.groups}
        attributes |= {"strides": node.stride, "pads": node.padding * 2, "kernel_shape": node.weight.shape[2:]}
        self.emit("ConvTranspose", [*names, *self.parameters(node)], output, **attributes)

    def norm(self, node: Norm, source: str, output: str) -> None:
        """Append a normalisation: LayerNormalization over the last axes, else step by step."""
        rank = len(node.output.shape)
        axes, first = tuple(range(rank - len(node.axes), rank)), rank - len(node.axes)
        weight = np.ones(1, np.float32) if node.weight is None else node.weight
        bias = np.zeros(1, np.float32) if node.bias is None else node.bias
        if node.axes == axes and all(each.size == 1 or set(each.shape[:first]) == {1} for each in (weight, bias)):
            inner = node.output.shape[first:]
            whole = [np.broadcast_to(each.reshape(each.shape[-len(inner) :]), inner) for each in (weight, bias)]
            names = [
                self.constant(f"{output}_{name}", np.ascontiguousarray(each))
                for name, each in zip(("weight", "bias"), whole, strict=True)
            ]
            self.emit("LayerNormalization", [source, *names], output, axis=first, epsilon=node.epsilon)
            return
        mean = self.emit("ReduceMean", [source], f"{output}_mean", axes=node.axes, keepdims=1)
        apart = self.emit("Sub", [source, mean], f"{output}_apart")
        square = self.emit("Mul", [apart, apart], f"{output}_square")
        variance = self.emit("ReduceMean", [square], f"{output}_variance", axes=node.axes, keepdims=1)
        kept = self.emit("Add", [variance, self.number(node.epsilon, f"{output}_epsilon")], f"{output}_kept")
        made = self.emit("Div", [apart, self.emit("Sqrt", [kept], f"{output}_root")], f"{output}_normed")
        made = self.emit("Mul", [made, self.constant(f"{output}_weight", weight)], f"{output}_scaled")
        self.emit("Add", [made, self.constant(f"{output}_bias", bias)], output)

    def resize(self, node: Resize, source: str, output: str) -> None:
        """Append a resize, with pixels where torch has them.

        ONNX Runtime's nearest pixel may be the one before where the image does not grow by whole numbers.
        """
        sizes = zip(node.inputs[0].shape[2:], node.output.shape[2:], strict=True)
        if node.mode == "nearest" and any(made % size for size, made in sizes):
            for axis in (2, 3):
                size, made = node.inputs[0].shape[axis], node.output.shape[axis]
                at = np.minimum(np.arange(made, dtype=np.float32) * np.float32(size / made), size - 1).astype(np.int64)
                target = output if axis == 3 else f"{output}_rows"
                source = self.emit("Gather", [source, self.integers(at, target)], target, axis=axis)
            return
        place = "align_corners" if node.align_corners else "half_pixel"
        ways = {"mode": "linear", "coordinate_transformation_mode": place}
        if node.mode == "nearest":
            ways = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        self.emit("Resize", [source, "", "", self.integers(node.output.shape, output)], output, **ways)

    def number(self, value: float, name: str) -> str:
        """Add a constant of one number and return its name."""
        return self.constant(name, np.array(value, np.float32))
