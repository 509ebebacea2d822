"""A model in ONNX as it is put together: its operators, the constants they use, its input and outputs."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from fbexport.graph import Constant, Conv, Expand, Graph, Node, Pool, Reshape, Shuffle, Slice, Transpose, Value

OPSET = 17
"""Models that runtimes several years old still load; scales for each channel came with 13."""
IR_VERSION = 8


class OnnxModel:
    """Collects ONNX nodes and the constants they use; values are tensors of `kind`."""

    kind: int = TensorProto.FLOAT

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []

    def emit(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """Append one ONNX node and return the name of its output."""
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def shuffle(self, node: Shuffle, source: str, output: str) -> None:
        """Append a channel shuffle: split the channels into groups, swap the two axes, join them again."""
        n, c, h, w = node.output.shape
        split = (n, node.groups, c // node.groups, h, w)
        self.reshape(source, split, f"{output}_groups")
        self.emit("Transpose", [f"{output}_groups"], f"{output}_swapped", perm=(0, 2, 1, 3, 4))
        self.reshape(f"{output}_swapped", (n, c, h, w), output)

    def reshape(self, source: str, shape: tuple[int, ...], output: str) -> None:
        """Append a reshape."""
        self.emit("Reshape", [source, self.constant(f"{output}_shape", np.array(shape, np.int64))], output)

    def rearrange(self, node: Node, names: list[str], output: str) -> bool:
        """Append what only moves numbers, of whichever kind; return whether it was such an operator."""
        match node:
            case Slice():
                lists = (node.starts, node.stops, range(len(node.starts)), node.steps)
                self.emit(
                    "Slice", [*names, *(self.integers(e, f"{output}_list{at}") for at, e in enumerate(lists))], output
                )
            case Reshape():
                self.reshape(names[0], node.output.shape, output)
            case Transpose():
                self.emit("Transpose", names, output, perm=node.axes)
            case Expand():
                self.emit("Expand", [*names, self.integers(node.output.shape, output)], output)
            case Pool(operation="max"):
                self.emit("MaxPool", names, output, **pool_attributes(node))
            case _:
                return False
        return True

    def integers(self, values: Any, name: str) -> str:
        """Add numbers that say how an operator works, and return their name."""
        return self.constant(f"{name}_numbers", np.array(values, np.int64))

    def constant(self, name: str, value: NDArray[Any]) -> str:
        """Add an initializer and return its name."""
        self.constants.append(numpy_helper.from_array(value, name))
        return name

    def name(self, value: Value) -> str:
        """Return a value's name in the file, where constants are put when they are first read."""
        if isinstance(value, Constant) and not any(each.name == value.name for each in self.constants):
            self.constant(value.name, value.array)
        return "output" if (value,) == self.graph.outputs else value.name

    def metadata(self) -> dict[str, str]:
        """Return what the file says of itself beside its graph."""
        return {}

    def finish(self, outputs: Sequence[Value]) -> ModelProto:
        """Return the finished model."""
        called = {self.name(value): name for value, name in self.graph.called.items()}
        if [*called] != [*called.values()]:  # at the end: names of constants hang on those of outputs
            for node in self.nodes:
                node.input[:] = [called.get(name, name) for name in node.input]
                node.output[:] = [called.get(name, name) for name in node.output]
        ends = [
            helper.make_tensor_value_info(called.get(name := self.name(value), name), self.kind, value.shape)
            for value in (*self.graph.inputs, *outputs)
        ]
        count = len(self.graph.inputs)
        graph = helper.make_graph(self.nodes, "network", ends[:count], ends[count:], self.constants)
        model = helper.make_model(
            graph, producer_name="fbnet-lab", opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
        )
        helper.set_model_props(model, self.metadata())
        return model


def conv_attributes(node: Conv) -> dict[str, Any]:
    """Return how a convolution is set up, without its activation."""
    return {
        "kernel_shape": node.weight.shape[2:],
        "strides": node.stride,
        "pads": node.padding * 2,
        "group": node.groups,
    } | ({"dilations": node.dilation} if node.dilation != (1, 1) else {})


def pool_attributes(node: Pool) -> dict[str, Any]:
    """Return how pooling is set up."""
    sides = {"kernel_shape": node.kernel, "strides": node.stride, "pads": node.padding}
    return sides | ({} if node.dilation == (1, 1) else {"dilations": node.dilation})
