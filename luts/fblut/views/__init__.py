"""One file per way to write down what differs between tables: for a terminal, Markdown, a page, a program."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fbbase.plugins import Plugins

Cell = str | int | float | None
"""What stands in a table; a number has digits as its column says."""


@dataclass(frozen=True, slots=True)
class Section:
    """A heading, lines of text, and a table: column titles, how numbers are written in each, and rows."""

    heading: str
    text: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[Cell, ...], ...] = ()
    digits: dict[str, int] = field(default_factory=dict)

    def written(self) -> list[list[str]]:
        """Return the rows as text."""
        return [[self._write(c, cell) for c, cell in zip(self.columns, row, strict=True)] for row in self.rows]

    def is_number(self, column: int) -> bool:
        """Whether a column holds numbers, which are set to the right."""
        return all(not isinstance(row[column], str) for row in self.rows)

    def _write(self, column: str, cell: Cell) -> str:
        if cell is None:
            return "-"
        return f"{cell:.{self.digits.get(column, 2)}f}" if isinstance(cell, float) else str(cell)


class View(ABC):
    """A format: a heading over sections for people, or everything as plain values for programs."""

    @abstractmethod
    def render(self, title: str, sections: Sequence[Section], values: Mapping[str, Any]) -> str:
        """Return the text, without a line break at its end.

        `sections` are what a person looks at. `values` are everything, as JSON has it; of a comparison the `baseline`,
        and of each of the `comparisons` what `fblut.comparison_views.as_dict` says. Both come from tables and file
        names: escape them.
        """


VIEWS = Plugins("format", "fblut.views", base=View)
