"""One file per way to write sections of tables down: for a terminal, Markdown, a page, a spreadsheet.

A view is a module with `render(title, sections) -> str`, and FORMAT names follow from the files.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from fbbase.plugins import PluginFolder

VIEWS = PluginFolder("format", "fblut.views")

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


def render(name: str, title: str, sections: Sequence[Section]) -> str:
    """Return sections in a format by name. Raises UnknownNameError."""
    text: str = VIEWS.module(name).render(title, sections)
    return text
