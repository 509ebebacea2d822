"""onnx: written node by node with onnx.helper, NCHW, in an opset that runtimes several years old still load."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from torch import nn

from fbexport.formats import check_precision, unknown_operator
from fbexport.graph import Activation, Binary, Conv, Graph, Linear, Mean, Node, Shuffle, Value
from fbexport.quantization.calibration import Ranges
from fbexport.trace import trace

SUFFIX = ".onnx"
RUNTIMES = ("onnxruntime",)
PRECISIONS = ("float32",)
OPSET = 17
IR_VERSION = 8

_ACTIVATIONS: dict[str, tuple[str, dict[str, float]]] = {
    "relu": ("Relu", {}),
    "hswish": ("HardSwish", {}),
    "hsigmoid": ("HardSigmoid", {"alpha": 1 / 6, "beta": 0.5}),
    "sigmoid": ("Sigmoid", {}),
}


def write(
    module: nn.Module,
    input_shape: tuple[int, int, int, int],
    precision: str,
    ranges: Ranges | None = None,
    every_value: bool = False,
) -> bytes:
    """Return an ONNX model of an eval-mode module: `input` of N, C, H, W, `output` of N, C, H, W or N, classes.

    Raises ExportError.
    """
    check_precision(precision, PRECISIONS, "onnx")
    graph = trace(module, input_shape)
    writer = _Writer(graph)
    for node in graph.nodes:
        writer.add(node)
    content: bytes = writer.model().SerializeToString(deterministic=True)
    return content


class _Writer:
    """Collects ONNX nodes and the constants they use."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []

    def add(self, node: Node) -> None:
        """Append the nodes of one operator."""
        names, output = [self.name(value) for value in node.inputs], self.name(node.output)
        match node:
            case Conv():
                raw = output if node.activation == "none" else f"{output}_raw"
                names += [self.constant(f"{output}_weight", node.weight), self.constant(f"{output}_bias", node.bias)]
                self.emit(
                    "Conv",
                    names,
                    raw,
                    kernel_shape=node.weight.shape[2:],
                    strides=node.stride,
                    pads=node.padding * 2,
                    group=node.groups,
                )
                if node.activation != "none":
                    self.activation(node.activation, raw, output)
            case Linear():
                names += [self.constant(f"{output}_weight", node.weight), self.constant(f"{output}_bias", node.bias)]
                self.emit("Gemm", names, output, transB=1)
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

    def activation(self, function: str, source: str, output: str) -> None:
        """Append an activation function; ReLU6 is a Clip."""
        if function == "relu6":
            low, high = np.zeros((), np.float32), np.full((), 6, np.float32)
            bounds = [self.constant(f"{output}_low", low), self.constant(f"{output}_high", high)]
            self.emit("Clip", [source, *bounds], output)
        else:
            kind, attributes = _ACTIVATIONS[function]
            self.emit(kind, [source], output, **attributes)

    def shuffle(self, node: Shuffle, source: str, output: str) -> None:
        """Append a channel shuffle: split the channels into groups, swap the two axes, join them again."""
        n, c, h, w = node.output.shape
        split = self.constant(f"{output}_split", np.array([n, node.groups, c // node.groups, h, w], np.int64))
        join = self.constant(f"{output}_join", np.array([n, c, h, w], np.int64))
        self.emit("Reshape", [source, split], f"{output}_groups")
        self.emit("Transpose", [f"{output}_groups"], f"{output}_swapped", perm=(0, 2, 1, 3, 4))
        self.emit("Reshape", [f"{output}_swapped", join], output)

    def emit(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> None:
        """Append one ONNX node."""
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))

    def constant(self, name: str, value: NDArray[Any]) -> str:
        """Add an initializer and return its name."""
        self.constants.append(numpy_helper.from_array(value, name))
        return name

    def name(self, value: Value) -> str:
        """Return a value's name in the file."""
        return "output" if value == self.graph.output else value.name

    def model(self) -> ModelProto:
        """Return the finished model."""
        ends = [
            helper.make_tensor_value_info(self.name(value), TensorProto.FLOAT, value.shape)
            for value in (self.graph.input, self.graph.output)
        ]
        graph = helper.make_graph(self.nodes, "network", ends[:1], ends[1:], self.constants)
        return helper.make_model(
            graph, producer_name="fbnet-lab", opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
        )
