"""An ONNX graph as it is read: which names are constants, what each node reads, what of it computes anything."""

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

import numpy as np
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from fbmodel.errors import ModelError
from fbmodel.tensors import Tensor

STANDARD = ("", "ai.onnx")
ELEMENTS = {
    kind: "str" if kind == TensorProto.STRING else helper.tensor_dtype_to_np_dtype(kind).name
    for kind in TensorProto.DataType.values()
    if kind != TensorProto.UNDEFINED
}
"""NumPy's names of ONNX's types."""
KINDS = {name: kind for kind, name in ELEMENTS.items()}
_RANDOM = {"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial", "Bernoulli"}


def reads(node: NodeProto) -> Iterator[str]:
    """Yield the names that a node reads, those that its bodies (If, Loop, Scan) take from outside included."""
    yield from (name for name in node.input if name)
    for body in bodies(node):
        yield from _captured(body)


def bodies(node: NodeProto) -> Iterator[GraphProto]:
    """Yield the graphs inside of a node."""
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            yield attribute.g
        yield from attribute.graphs


def tensor_of(value: Any) -> Tensor | None:
    """Return the tensor that a ValueInfoProto describes; None for a sequence, a map, or one of no known type."""
    kind = value.type.tensor_type
    if not value.type.HasField("tensor_type") or not kind.elem_type:
        return None
    element = ELEMENTS[kind.elem_type]
    if not kind.HasField("shape"):
        return Tensor(value.name, None, element)
    return Tensor(value.name, tuple(_size(each) for each in kind.shape.dim), element)


def symbols_of(value: Any) -> tuple[str, ...]:
    """Return the names of a value's dimensions, empty where one has none; `?` is none, as some writers say it."""
    names = (each.dim_param for each in value.type.tensor_type.shape.dim)
    return tuple(name if any(map(str.isalpha, name)) else "" for name in names)


class OnnxGraph:
    """What a model's graph says without running it."""

    def __init__(self, model: ModelProto) -> None:
        """Raise ModelError for a graph that no runtime would take."""
        self.model, self.graph = model, model.graph
        self.functions = {(each.domain, each.name) for each in model.functions}
        self.constants: dict[str, Any] = {each.name: each for each in self.graph.initializer}
        self.constants |= {each.values.name: each for each in self.graph.sparse_initializer}
        self.maker: dict[str, int] = {}
        known = {*self.constants, *(each.name for each in self.graph.input)}
        if not self.graph.node:
            raise ModelError("it has no nodes")
        for number, node in enumerate(self.graph.node):
            for name in reads(node):
                if name not in known:
                    raise ModelError(f"node {called(node)!r} reads {name[:80]!r}, which nothing before it makes")
            for name in filter(None, node.output):
                if name in known:
                    raise ModelError(f"node {called(node)!r} makes {name[:80]!r}, which is there already")
                self.maker[name] = number
                known.add(name)
        missing = [each.name for each in self.graph.output if each.name not in known]
        if missing:
            raise ModelError(f"its output {missing[0][:80]!r} is made by no node")
        _refuse_external(self.graph)

    @cached_property
    def inputs(self) -> list[Any]:
        """The inputs that are no constants; older files list their constants among them."""
        return [each for each in self.graph.input if each.name not in self.constants]

    @cached_property
    def output_names(self) -> set[str]:
        """Names of the model's outputs."""
        return {each.name for each in self.graph.output}

    def folded(self, types: Mapping[str, Tensor]) -> set[int]:
        """Return the nodes whose result is known before the model runs; `types` are those of all names.

        The shape of an activation is a constant, too, where it is fixed.
        """
        found: set[int] = set()
        for number, node in enumerate(self.graph.node):
            if node.op_type in ("Shape", "Size") and node.domain in STANDARD:
                known = types.get(node.input[0]) if node.input else None
                if known is not None and known.is_fixed:
                    found.add(number)
                    continue
            if node.op_type not in _RANDOM and all(
                name in self.constants or self.maker.get(name) in found for name in reads(node)
            ):
                found.add(number)
        return found

    def is_carried(self, node: NodeProto) -> bool:
        """Whether a node goes along with what reads it: the widening of integers that a quantized kernel takes in."""
        return node.op_type == "DequantizeLinear" and not self.output_names.intersection(node.output)

    def live(self, folded: set[int]) -> set[int]:
        """Return the nodes on which the model's outputs depend when it runs."""
        found: set[int] = set()
        waiting = [self.maker[name] for name in self.output_names if name in self.maker]
        while waiting:
            number = waiting.pop()
            if number not in found and number not in folded:
                found.add(number)
                waiting += [self.maker[name] for name in reads(self.graph.node[number]) if name in self.maker]
        return found


def tensors_of(graph: GraphProto) -> Iterator[tuple[str, TensorProto]]:
    """Yield the constants of a graph and of the bodies inside of it, each by its name."""
    yield from ((each.name, each) for each in graph.initializer)
    for node in graph.node:
        yield from ((node.output[0], each.t) for each in node.attribute if each.HasField("t") and node.output)
        for body in bodies(node):
            yield from tensors_of(body)


def called(node: NodeProto) -> str:
    """Return what messages call a node: by its name, else by its first output."""
    return (node.name or next(filter(None, node.output), node.op_type))[:80]


def shape_tensor(node: NodeProto, shape: tuple[int, ...]) -> TensorProto:
    """Return what a Shape or Size node gives for a tensor of this shape."""
    settings = {each.name: each.i for each in node.attribute}
    if node.op_type == "Size":
        values = np.array(np.prod(shape, dtype=np.int64), np.int64)
    else:
        values = np.array(shape[settings.get("start", 0) : settings.get("end", len(shape))], np.int64)
    return numpy_helper.from_array(values, node.output[0])


def _size(dimension: Any) -> int | None:
    """Return a dimension's size; −1 is how some writers say that it is open."""
    size: int = dimension.dim_value
    return None if not dimension.HasField("dim_value") or size == -1 else size


def _captured(graph: GraphProto) -> set[str]:
    """Return the names that a body takes from outside."""
    made = {each.name for each in (*graph.input, *graph.initializer)}
    made |= {each.values.name for each in graph.sparse_initializer}
    found: set[str] = set()
    for node in graph.node:
        found |= set(reads(node)) - made
        made |= set(node.output)
    return found | ({each.name for each in graph.output} - made)


def _refuse_external(graph: GraphProto) -> None:
    for name, tensor in tensors_of(graph):
        if tensor.data_location == TensorProto.EXTERNAL:
            raise ModelError(
                f"it keeps {name[:80]!r} in another file; put all into one: "
                "python -c \"import onnx; onnx.save(onnx.load('IN.onnx'), 'OUT.onnx')\""
            )
