"""Tables of flatbuffers whose schemas have no Python classes: fields are named by their place in the schema."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import flatbuffers
import numpy as np

Fields: TypeAlias = "dict[int, tuple[str, float] | int]"
"""By place: a number with its kind as flatbuffers' builder calls it, `("Uint32", 3)`, or where a part lies."""


class Tables:
    """Builds one flatbuffer; what is returned is where a part of it lies."""

    def __init__(self) -> None:
        self._builder: Any = flatbuffers.Builder(8192)

    def table(self, fields: Fields) -> int:
        """Add a table: by their places, numbers, and parts that were added before it."""
        builder = self._builder
        builder.StartObject(max(fields, default=-1) + 1)
        for place, field in fields.items():
            if isinstance(field, int):
                builder.PrependUOffsetTRelativeSlot(place, field, 0)
            else:
                getattr(builder, f"Prepend{field[0]}Slot")(place, field[1], 0)
        return int(builder.EndObject())

    def union(self, kind: int, part: int) -> int:
        """Add a table of a union alone: which of its tables it is, and that one."""
        return self.table({0: ("Uint8", kind), 1: part})

    def numbers(self, values: Sequence[int], kind: Any) -> int:
        """Add a list of numbers of a NumPy type."""
        array = np.array(values, kind)
        if array.size:
            return int(self._builder.CreateNumpyVector(array))
        self._builder.StartVector(array.itemsize, 0, array.itemsize)  # CreateNumpyVector takes no empty one
        return int(self._builder.EndVector())

    def parts(self, parts: Sequence[int] = ()) -> int:
        """Add a list of parts."""
        self._builder.StartVector(4, len(parts), 4)
        for part in reversed(parts):
            self._builder.PrependUOffsetTRelative(part)
        return int(self._builder.EndVector())

    def text(self, text: str) -> int:
        """Add a text."""
        return int(self._builder.CreateString(text))

    def finish(self, root: int, identifier: bytes) -> bytes:
        """Return the flatbuffer."""
        self._builder.Finish(root, identifier)
        return bytes(self._builder.Output())
