"""What an ExecuTorch program says of itself: its first method's inputs and outputs, and what runs outside delegates."""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

from fbmodel.errors import ModelError
from fbmodel.tensors import MOST_DIMENSIONS, Tensor, check_shape

IDENTIFIER = b"ET12"
_TENSOR = 5
_KERNEL_CALL = 1
_ELEMENTS = {
    0: "uint8", 1: "int8", 2: "int16", 3: "int32", 4: "int64", 5: "float16", 6: "float32", 7: "float64", 11: "bool",
}  # fmt: skip
_LONGEST_NAME = 200


@dataclass(frozen=True, slots=True)
class Program:
    """A method of a program; tensors are called by their place, as it has no names for them.

    `kernels` are the operators that it calls itself, in order, e.g. `aten::mean.dim`; all others are in `delegates`.
    """

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    kernels: tuple[str, ...]
    delegates: tuple[str, ...]


def read_program(content: bytes) -> Program:
    """Return what a file says. Raises ModelError, and for a damaged one what reading it trips over."""
    if content[4:8] != IDENTIFIER:
        raise ValueError("it does not begin as one")
    plan = next(_Table(content, struct.unpack_from("<I", content)[0]).tables(1), None)
    if plan is None:
        raise ModelError("it has no method")
    values = list(plan.tables(2))
    operators = list(plan.tables(6))
    calls = [call for chain in plan.tables(5) for call in chain.tables(2)]
    kernels = [call.child(1).number(0, "i") for call in calls if call.number(0, "B") == _KERNEL_CALL]
    return Program(
        _ends("input", [values[number] for number in plan.numbers(3)]),
        _ends("output", [values[number] for number in plan.numbers(4)]),
        tuple(_name(operators[number]) for number in dict.fromkeys(kernels)),
        tuple(each.text(0) for each in plan.tables(7)),
    )


class _Table:
    """A table in a flatbuffer; fields are asked for by their place in the schema."""

    def __init__(self, content: bytes, at: int) -> None:
        self.content, self.at = content, at
        self.fields = at - self._read("i", at)

    def number(self, place: int, kind: str) -> int:
        """Return a number of a kind that struct knows; 0 where there is none."""
        at = self._field(place)
        return self._read(kind, at) if at else 0

    def child(self, place: int) -> Self:
        """Return a table. Raises ValueError where there is none."""
        at = self._field(place)
        if not at:
            raise ValueError("it lacks what every one has")
        return type(self)(self.content, self._to(at))

    def numbers(self, place: int, kind: str = "i") -> tuple[int, ...]:
        """Return a list of numbers."""
        start, count = self._list(place)
        if count > MOST_DIMENSIONS:
            raise ValueError(f"it has a list of {count} where at most {MOST_DIMENSIONS} are taken")
        return struct.unpack_from(f"<{count}{kind}", self.content, start)

    def tables(self, place: int) -> Iterator[Self]:
        """Yield a list of tables."""
        start, count = self._list(place)
        for at in range(start, start + 4 * count, 4):
            yield type(self)(self.content, self._to(at))

    def text(self, place: int) -> str:
        """Return a text, its beginning if it is long."""
        start, count = self._list(place)
        return self.content[start : start + min(count, _LONGEST_NAME)].decode(errors="replace")

    def _list(self, place: int) -> tuple[int, int]:
        at = self._field(place)
        start = self._to(at) if at else 0
        count = self._read("I", start) if at else 0
        if count > len(self.content):
            raise ValueError("it has a list that is longer than it")
        return start + 4, count

    def _field(self, place: int) -> int:
        """Return where a field lies, 0 where it is left out."""
        if 4 + 2 * place >= self._read("H", self.fields):
            return 0
        offset = self._read("H", self.fields + 4 + 2 * place)
        return self.at + offset if offset else 0

    def _to(self, at: int) -> int:
        return at + self._read("I", at)

    def _read(self, kind: str, at: int) -> int:
        if at < 0:
            raise ValueError("it points before its beginning")
        return int(struct.unpack_from(f"<{kind}", self.content, at)[0])


def _ends(what: str, values: Sequence[_Table]) -> tuple[Tensor, ...]:
    """Return the inputs or outputs, an only one without a number."""
    return tuple(_tensor(what if len(values) == 1 else f"{what}_{at}", value) for at, value in enumerate(values))


def _tensor(name: str, value: _Table) -> Tensor:
    if value.number(0, "B") != _TENSOR:
        raise ModelError(f"its {name} is no tensor, and tensors are fed")
    tensor = value.child(1)
    kind = tensor.number(0, "b")
    if kind not in _ELEMENTS:
        raise ModelError(f"its {name} is of ExecuTorch's type {kind}; known: {', '.join(_ELEMENTS.values())}")
    shape = tensor.numbers(2)
    check_shape(name, shape)
    return Tensor(name, shape, _ELEMENTS[kind])


def _name(operator: _Table) -> str:
    name, overload = operator.text(0), operator.text(1)
    return f"{name}.{overload}" if overload else name
