"""onnx: ONNX models, read and cut with the package onnx."""

from functools import cached_property
from pathlib import Path
from typing import Any, Self

from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import ModelProto, load_from_string

from fbmodel.errors import ModelError, decoding, named
from fbmodel.formats._onnx_cut import Rows
from fbmodel.formats._onnx_graph import OnnxGraph, symbols_of, tensor_of
from fbmodel.formats._onnx_macs import count_macs, count_parameters
from fbmodel.formats._onnx_types import types_of
from fbmodel.model import Model
from fbmodel.tensors import Node, Shape, Tensor, check_shape, spelled_inputs
from fbmodel.trial import TrialError


class Onnx(Model):
    """ONNX models in one file; control flow stays inside of its node."""

    suffixes = ".onnx"

    def __init__(self, path: Path, content: bytes) -> None:
        """Read a model."""
        super().__init__(path, content)
        with decoding(path, "ONNX model", DecodeError):
            self._model: ModelProto = load_from_string(content)
        with named(path), decoding(path, "ONNX model"):
            if not self._model.HasField("graph"):
                raise ModelError("it is no ONNX model, or a damaged one: it has no graph")
            self._graph = OnnxGraph(self._model)
            self.inputs = tuple(_described(value, "input") for value in self._graph.inputs)
            self.outputs = tuple(_described(value, "output") for value in self._graph.graph.output)
            for tensor in self.inputs:
                check_shape(tensor.name, tensor.shape)
        self.symbols = {value.name: symbols_of(value) for value in self._graph.inputs}

    @cached_property
    def parameters(self) -> int:
        """Numbers of all constants that are weights, biases or statistics."""
        return count_parameters(self._graph)

    def rewritten(self, inputs: tuple[Tensor, ...]) -> Self:
        """Write the shapes into the inputs, and what follows from them into the outputs."""
        model, shapes = ModelProto(), {tensor.name: tensor.shape for tensor in inputs}
        model.CopyFrom(self._model)
        del model.graph.value_info[:]
        for value in model.graph.input:
            if value.name in shapes:
                _set_shape(value, shapes[value.name])
        for value in model.graph.output:
            value.type.tensor_type.ClearField("shape")
        try:
            with named(self.path), decoding(self.path, "ONNX model that takes these shapes"):
                found = types_of(OnnxGraph(model))
        except TrialError as error:
            asked = spelled_inputs(inputs)
            raise ModelError(f"{self.path} cannot be set to {asked}: {error}") from None
        for value, was in zip(model.graph.output, self.outputs, strict=True):
            known = found[value.name].shape if value.name in found else None
            if known is not None or was.shape is not None:
                _set_shape(value, known if known is not None else (None,) * len(was.shape or ()))
        return type(self)(self.path, model.SerializeToString(deterministic=True))

    def nodes(self) -> list[Node]:
        """Return the nodes on which the outputs depend, but for constants and the widening of integers."""
        return self._nodes

    def inseparable(self) -> set[str]:
        """Return what ONNX's inference and a trial run leave open, and what is no tensor."""
        with named(self.path), decoding(self.path, "ONNX model that can be cut"):
            return {name for name in self._rows.readers if not self._rows.is_known(name)}

    def cut(self, first: int, last: int) -> bytes:
        """Return some nodes with the constants that they use."""
        with named(self.path), decoding(self.path, "ONNX model that can be cut"):
            content: bytes = self._rows.part(first, last).SerializeToString(deterministic=True)
            return content

    @cached_property
    def _rows(self) -> Rows:
        try:
            return Rows(self._graph, types_of(self._graph))
        except TrialError as error:
            raise ModelError(f"its shapes are not known, as onnxruntime refuses it: {error}") from None

    @cached_property
    def _nodes(self) -> list[Node]:
        with named(self.path), decoding(self.path, "ONNX model whose nodes can be listed"):
            return [self._rows.node(row, count_macs) for row in range(len(self._rows.numbers))]


def _described(value: Any, what: str) -> Tensor:
    """Return an input or output. Raises ModelError for one that is no tensor."""
    found = tensor_of(value)
    if found is None:
        raise ModelError(f"{what} {value.name[:80]!r} is no tensor of a known type")
    return found


def _set_shape(value: Any, shape: Shape) -> None:
    """Write a shape into a value; an open dimension stays without a size."""
    kind = value.type.tensor_type
    kind.ClearField("shape")
    kind.shape.SetInParent()
    for size in shape or ():
        dimension = kind.shape.dim.add()
        if size is not None:
            dimension.dim_value = size
