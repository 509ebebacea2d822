"""Parts of a TFLite graph as files of their own."""

import copy
from collections.abc import Iterable
from typing import Any

import numpy as np

from fbmodel.errors import ModelError
from fbmodel.flatbuffer import AlignedBuffer, packed, schema
from fbmodel.formats._tflite_graph import TfliteGraph

_NO_TENSORS = {schema.TensorType.RESOURCE, schema.TensorType.VARIANT}


def cut_out(graph: TfliteGraph, numbers: Iterable[int]) -> bytes:
    """Return some operators, given in order, as a file. Raises ModelError where they cannot be cut out."""
    chosen = list(numbers)
    where = f"operator {chosen[0]} ({graph.kind(graph.operators[chosen[0]])}) cannot be cut out"
    if len(graph.model.subgraphs) > 1:
        raise ModelError(f"{where}: the file has {len(graph.model.subgraphs)} graphs, and files of one are cut")
    taken, inputs = _needed(graph, chosen)
    made = [tensor for number in chosen for tensor in graph.made_by(graph.operators[number])]
    others = [number for number in graph.rows() if number not in set(chosen)]
    wanted = {tensor for number in others for tensor in graph.read_by(graph.operators[number])} | set(graph.outputs)
    outputs = [tensor for tensor in made if tensor in wanted] or made
    for tensor in inputs:
        if None in graph.shape(tensor):
            raise ModelError(f"{where}: the shape of {graph.names[tensor][:80]!r} is known only when it runs")
    part = _Part(graph, where)
    ends = [part.tensor(number) for number in inputs]
    operators = [part.operator(graph.operators[number]) for number in taken]
    main = schema.SubGraphT(
        tensors=part.tensors,
        inputs=ends,
        outputs=[part.tensor(number) for number in outputs],
        operators=operators,
        name="main",
    )
    return packed(
        schema.ModelT(
            version=graph.model.version,
            operatorCodes=part.codes,
            subgraphs=[main],
            description="fbnet-lab",
            buffers=part.buffers,
        )
    )


def _needed(graph: TfliteGraph, chosen: list[int]) -> tuple[list[int], list[int]]:
    """Return the operators with those that go along, in order, and the tensors that flow in from outside."""
    taken, inputs = set(chosen), dict[int, None]()
    made = {tensor for number in chosen for tensor in graph.made_by(graph.operators[number])}
    waiting = [tensor for number in reversed(chosen) for tensor in reversed(graph.read_by(graph.operators[number]))]
    seen: set[int] = set()
    while waiting:
        tensor = waiting.pop()
        if tensor in seen or tensor in made:
            continue
        seen.add(tensor)
        number = graph.maker.get(tensor)
        if tensor in graph.inputs or (number is not None and number not in graph.folded):
            inputs[tensor] = None
        elif number is not None and graph.kind(graph.operators[number]) != "SHAPE":
            taken.add(number)
            waiting += reversed(graph.read_by(graph.operators[number]))
    return sorted(taken), list(inputs)


class _Part:
    """Collects the tensors, buffers and operator codes of a part."""

    def __init__(self, graph: TfliteGraph, where: str) -> None:
        self.graph, self.where = graph, where
        self.tensors: list[Any] = []
        self.buffers: list[Any] = [AlignedBuffer()]  # number 0 is empty by convention: tensors without data name it
        self.codes: list[Any] = []
        self._numbers: dict[int, int] = {}
        self._codes: dict[int, int] = {}

    def tensor(self, number: int) -> int:
        """Return the part's number of a tensor, which is added with its data at first use; −1 is none."""
        if number == -1:
            return -1
        if number not in self._numbers:
            self._numbers[number] = len(self.tensors)
            self.tensors.append(self._copied(number))
        return self._numbers[number]

    def operator(self, operator: Any) -> Any:
        """Return an operator with the part's numbers."""
        if operator.largeCustomOptionsOffset > 1:
            raise ModelError(f"{self.where}: it keeps its options outside of the flatbuffer")
        made = copy.copy(operator)
        made.opcodeIndex = self._code(operator.opcodeIndex)
        for name in ("inputs", "outputs", "intermediates"):
            numbers = getattr(operator, name)
            setattr(made, name, None if numbers is None else [self.tensor(int(each)) for each in numbers])
        made.debugMetadataIndex = -1
        return made

    def _code(self, number: int) -> int:
        if number not in self._codes:
            self._codes[number] = len(self.codes)
            self.codes.append(self.graph.model.operatorCodes[number])
        return self._codes[number]

    def _copied(self, number: int) -> Any:
        """Return a tensor with its data, which an earlier SHAPE operator may have computed."""
        tensor = self.graph.tensors[number]
        name = self.graph.names[number]
        if tensor.isVariable or tensor.type in _NO_TENSORS:
            raise ModelError(f"{self.where}: {name[:80]!r} keeps a state from one inference to the next")
        made = copy.copy(tensor)
        made.name, made.shapeSignature, made.buffer = name, None, 0
        source = self.graph.model.buffers[tensor.buffer]
        maker = self.graph.maker.get(number)
        if source.offset > 1 or tensor.externalBuffer > 0:
            raise ModelError(f"{self.where}: {name[:80]!r} lies outside of the flatbuffer")
        if maker is not None and maker in self.graph.folded and self.graph.kind(self.graph.operators[maker]) == "SHAPE":
            sizes = self.graph.fixed_shape(self.graph.read_by(self.graph.operators[maker])[0])
            kind = np.int64 if tensor.type == schema.TensorType.INT64 else np.int32
            made.buffer = self._buffer(np.array(sizes, kind).view(np.uint8))
        elif number in self.graph.constants:
            made.buffer = self._buffer(source.data)
        return made

    def _buffer(self, data: Any) -> int:
        self.buffers.append(AlignedBuffer(data=data))
        return len(self.buffers) - 1
