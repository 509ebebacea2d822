"""A TFLite graph as it is read: names, types and shapes of its tensors, what each operator reads and makes."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from fbmodel.errors import ModelError
from fbmodel.flatbuffer import schema
from fbmodel.tensors import Node, Tensor

_KINDS = {number: name for name, number in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
ELEMENTS = {number: name.lower() for name, number in vars(schema.TensorType).items() if not name.startswith("_")} | {
    schema.TensorType.STRING: "str"
}
"""NumPy's names of TFLite's types."""
_LEARNT = {"float32", "float16", "bfloat16", "float64", "int8", "uint8", "int16", "int4", "int2", "uint4"}
_STATEFUL = {
    "CALL", "CALL_ONCE", "IF", "WHILE", "CUSTOM", "MULTINOMIAL", "RANDOM_STANDARD_NORMAL", "RANDOM_UNIFORM",
    "STABLEHLO_RNG_BIT_GENERATOR", "VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE", "HASHTABLE", "HASHTABLE_FIND",
    "HASHTABLE_IMPORT", "HASHTABLE_SIZE", "HASHTABLE_LOOKUP",
}  # fmt: skip
"""Operators that are not computed once when the model is loaded, even where all they read are constants."""


class TfliteGraph:
    """The main subgraph of a model."""

    def __init__(self, model: Any) -> None:
        """Raise ModelError for a graph that no runtime would take."""
        self.model = model
        if not model.subgraphs:
            raise ModelError("it has no graph")
        self.graph = model.subgraphs[0]
        self.tensors: list[Any] = self.graph.tensors or []
        self.operators: list[Any] = self.graph.operators or []
        if not self.operators:
            raise ModelError("it has no operators")
        self.inputs, self.outputs = self._numbers(self.graph.inputs), self._numbers(self.graph.outputs)
        self.names = _unique([_text(each.name) for each in self.tensors])
        self.constants = {number for number, each in enumerate(self.tensors) if self._has_data(each)}
        self.maker: dict[int, int] = {}
        known = {*self.constants, *self.inputs}
        known |= {number for number, each in enumerate(self.tensors) if each.isVariable or 0 in _integers(each.shape)}
        for number, operator in enumerate(self.operators):
            for tensor in self.read_by(operator):
                if tensor not in known:
                    name = self.names[tensor][:80]
                    raise ModelError(f"operator {number} ({self.kind(operator)}) reads {name!r}, which nothing makes")
            for tensor in self._numbers(operator.outputs):
                self.maker[tensor] = number
                known.add(tensor)
        self.folded = self._folded()

    def kind(self, operator: Any) -> str:
        """Return the name of what an operator does."""
        code = self.model.operatorCodes[_within(operator.opcodeIndex, self.model.operatorCodes)]
        number = max(code.builtinCode, code.deprecatedBuiltinCode)
        if number == schema.BuiltinOperator.CUSTOM:
            return _text(code.customCode) or "CUSTOM"
        return str(_KINDS.get(number, f"operator {number}"))

    def read_by(self, operator: Any) -> list[int]:
        """Return the tensors that an operator reads; it may leave out optional ones."""
        return self._numbers(operator.inputs, optional=True)

    def made_by(self, operator: Any) -> list[int]:
        """Return the tensors that an operator makes."""
        return self._numbers(operator.outputs)

    def shape(self, number: int) -> tuple[int | None, ...]:
        """Return the shape of a tensor as the file says it."""
        tensor = self.tensors[number]
        sizes = _integers(tensor.shape)
        signature = _integers(tensor.shapeSignature) or sizes
        if len(signature) != len(sizes):
            raise ModelError(f"tensor {self.names[number][:80]!r} has two numbers of dimensions")
        return tuple(None if open_size == -1 else size for size, open_size in zip(sizes, signature, strict=True))

    def fixed_shape(self, number: int) -> tuple[int, ...]:
        """Return the shape of a tensor. Raises LookupError where the file leaves it open."""
        shape = self.shape(number)
        if None in shape:
            raise LookupError(number)
        return tuple(size for size in shape if size is not None)

    def tensor(self, number: int) -> Tensor:
        """Return what a tensor is."""
        return Tensor(self.names[number], self.shape(number), ELEMENTS[self.tensors[number].type])

    def activations(self, numbers: Iterable[int]) -> list[int]:
        """Return those of some tensors that are made when the model runs."""
        own = (each for each in numbers if each not in self.constants and self.maker.get(each) not in self.folded)
        return [each for each in dict.fromkeys(own) if each in self.maker or each in self.inputs]

    def rows(self) -> list[int]:
        """Return the operators that are listed: all but those that are computed once."""
        return [number for number in range(len(self.operators)) if number not in self.folded]

    def node(self, number: int) -> Node:
        """Return how an operator is listed; the format gives operators no names: it is its first output's."""
        operator = self.operators[number]
        made = self.made_by(operator)
        kind = self.kind(operator)
        try:
            shape = self.fixed_shape(made[0])
        except LookupError:
            shape = None
        return Node(
            self.names[made[0]] if made else f"{kind}_{number}",
            kind,
            tuple(self.names[each] for each in self.activations(self.read_by(operator))),
            tuple(self.names[each] for each in made),
            shape,
            self._macs(kind, operator),
        )

    def parameters(self) -> int:
        """Return how many numbers the constants have that are neither shapes nor axes; single numbers are settings."""
        found = 0
        for number in self.constants:
            tensor, size = self.tensors[number], math.prod(_integers(self.tensors[number].shape))
            is_bias = ELEMENTS.get(tensor.type) == "int32" and tensor.quantization is not None
            is_bias = is_bias and len(_integers(tensor.quantization.scale)) > 0
            found += size if size > 1 and (ELEMENTS.get(tensor.type) in _LEARNT or is_bias) else 0
        return found

    def _macs(self, kind: str, operator: Any) -> int | None:
        """Return multiply-accumulates; 0 for operators that multiply by no weights, None where not known."""
        read, made = _integers(operator.inputs), self.made_by(operator)
        if kind not in _KINDS.values() or kind in _STATEFUL:
            return None
        try:
            match kind:
                case "CONV_2D":
                    return math.prod(self.fixed_shape(made[0])) * math.prod(self.fixed_shape(read[1])[1:])
                case "DEPTHWISE_CONV_2D":
                    return math.prod(self.fixed_shape(made[0])) * math.prod(self.fixed_shape(read[1])[1:3])
                case "TRANSPOSE_CONV":
                    return math.prod(self.fixed_shape(read[2])[:3]) * math.prod(self.fixed_shape(read[1]))
                case "FULLY_CONNECTED":
                    return math.prod(self.fixed_shape(read[0])) * self.fixed_shape(read[1])[0]
                case "BATCH_MATMUL":
                    depth = self.fixed_shape(read[0])[-2 if operator.builtinOptions.adjX else -1]
                    return math.prod(self.fixed_shape(made[0])) * depth
                case _:
                    return 0
        except (LookupError, AttributeError):
            return None

    def _folded(self) -> set[int]:
        """Return the operators whose result is known before the model runs: the shape of an activation, too."""
        found: set[int] = set()
        for number, operator in enumerate(self.operators):
            kind, read = self.kind(operator), self.read_by(operator)
            if kind == "SHAPE" and read and None not in self.shape(read[0]):
                found.add(number)
            elif (
                kind not in _KINDS.values() or kind in _STATEFUL or any(self.tensors[each].isVariable for each in read)
            ):
                continue
            elif all(each in self.constants or self.maker.get(each) in found for each in read):
                found.add(number)
        return found

    def _numbers(self, numbers: Any, optional: bool = False) -> list[int]:
        """Return numbers of tensors. Raises ModelError for one that there is not."""
        found = [each for each in _integers(numbers) if not (optional and each == -1)]
        for each in found:
            _within(each, self.tensors)
        return found

    def _has_data(self, tensor: Any) -> bool:
        buffer = self.model.buffers[_within(tensor.buffer, self.model.buffers)]
        return (buffer.data is not None and len(buffer.data) > 0) or buffer.offset > 1 or tensor.externalBuffer > 0


def _integers(array: Any) -> list[int]:
    """Return what a list of the schema's classes holds; a missing one and an empty one are alike."""
    return [] if array is None or isinstance(array, int) else [int(each) for each in array]


def _within(number: int, items: Sequence[Any]) -> int:
    """Return a number that is one of a list's. Raises ModelError for another."""
    if not 0 <= number < len(items):
        raise ModelError(f"it names number {number} of a list of {len(items)}")
    return number


def _text(name: bytes | None) -> str:
    return (name or b"").decode("utf-8", "backslashreplace")


def _unique(names: Sequence[str]) -> list[str]:
    """Return names of which none is empty or another's: those are followed by their number."""
    count = Counter(names)
    return [name if name and count[name] == 1 else f"{name or 'tensor'}:{number}" for number, name in enumerate(names)]
