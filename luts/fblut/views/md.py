"""Markdown: for an issue or a pull request."""

from collections.abc import Mapping, Sequence
from typing import Any

from fblut.views import Section, View


class Markdown(View):
    """Markdown, with tables."""

    def render(self, title: str, sections: Sequence[Section], values: Mapping[str, Any]) -> str:
        """Return Markdown with tables."""
        return "\n\n".join([f"## {escape(title)}", *map(_section, sections)])


def _section(section: Section) -> str:
    lines = [f"### {escape(section.heading)}", ""]
    lines += [f"- {escape(line)}" for line in section.text]
    if section.columns:
        lines += [""] * bool(section.text)
        lines.append(_row(section.columns))
        lines.append(_row(["--:" if section.is_number(i) else ":--" for i in range(len(section.columns))]))
        lines += map(_row, section.written())
    return "\n".join(lines)


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(map(escape, cells)) + " |"


def escape(text: str) -> str:
    """Return a text as it stands on one line, in a cell too, and is no markup."""
    return " ".join(text.split()).replace("|", r"\|").replace("<", "&lt;")
