"""Visits: what a journal records of each visit to a subject, and a run's visits in a tenth of the memory of objects."""

from array import array
from collections.abc import Iterator, Sequence
from typing import Literal, overload

import pydantic

from fbagents.agent.protocol import Visit

_NONE = -(1 << 63)


class Visited(pydantic.BaseModel):
    """A subject, an operator or a network, was visited; warm-up visits are not counted."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    record: Literal["visit"] = "visit"
    key: str
    warm_up: bool = False
    visit: Visit


class Visits(Sequence[Visited]):
    """The visits that count, in order of time, kept as columns: many thousands on each of many devices.

    The objects are made when they are asked for, without the number of the request that they answered.
    """

    __slots__ = ("_cpu_ns", "_ends", "_has_cpu", "_keys", "_names", "_numbers", "_rest", "_wall_ns")

    def __init__(self) -> None:
        self._names: list[str] = []
        self._numbers: dict[str, int] = {}
        self._keys = array("l")
        self._ends = array("q")  # where a visit's samples end
        self._wall_ns = array("q")
        self._cpu_ns = array("q")
        self._has_cpu = bytearray()
        self._rest = array("q")  # index, start_ns, core, freq_khz

    def append(self, record: Visited) -> None:
        """Take in one more visit."""
        visit = record.visit
        number = self._numbers.setdefault(record.key, len(self._names))
        if number == len(self._names):
            self._names.append(record.key)
        self._keys.append(number)
        self._wall_ns.extend(visit.wall_ns)
        self._cpu_ns.extend(visit.cpu_ns or visit.wall_ns)
        self._has_cpu.append(visit.cpu_ns is not None)
        self._ends.append(len(self._wall_ns))
        for value in (visit.index, visit.start_ns, visit.core, visit.freq_khz):
            self._rest.append(_NONE if value is None else value)

    def __len__(self) -> int:
        return len(self._keys)

    @overload
    def __getitem__(self, index: int) -> Visited: ...
    @overload
    def __getitem__(self, index: slice) -> list[Visited]: ...
    def __getitem__(self, index: int | slice) -> Visited | list[Visited]:
        numbers = range(len(self))[index]
        return self._visited(numbers) if isinstance(numbers, int) else [self._visited(number) for number in numbers]

    def __iter__(self) -> Iterator[Visited]:
        return map(self._visited, range(len(self)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(Visited.__eq__, self, other))

    __hash__ = None  # type: ignore[assignment]  # it grows

    def _visited(self, number: int) -> Visited:
        name = self._names[self._keys[number]]
        samples = slice(self._ends[number - 1] if number else 0, self._ends[number])
        index, start_ns, core, freq_khz = self._rest[4 * number : 4 * number + 4]
        visit = Visit.model_construct(
            event="visit",
            index=index,
            model=name,
            start_ns=start_ns,
            wall_ns=tuple(self._wall_ns[samples]),
            cpu_ns=tuple(self._cpu_ns[samples]) if self._has_cpu[number] else None,
            core=None if core == _NONE else core,
            freq_khz=None if freq_khz == _NONE else freq_khz,
        )
        return Visited.model_construct(key=name, visit=visit)
