"""For a terminal: columns in line."""

from collections.abc import Mapping, Sequence
from typing import Any

from fblut.views import Section, View


class Terminal(View):
    """Plain text."""

    def render(self, title: str, sections: Sequence[Section], values: Mapping[str, Any]) -> str:
        """Return plain text."""
        return "\n\n".join([title, *map(_section, sections)])


def _section(section: Section) -> str:
    lines = [section.heading, *(f"  {line}" for line in section.text)]
    if section.columns:
        cells = [[*section.columns], *section.written()]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        right = [section.is_number(i) for i in range(len(widths))]
        for row in cells:
            padded = [c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, right, strict=True)]
            lines.append(("  " + "  ".join(padded)).rstrip())
    return "\n".join(lines)
