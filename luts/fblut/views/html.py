"""One page that needs nothing else: light and dark, readable on a phone."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from fblut.views import Section, View

STYLE = """
:root { color-scheme: light dark; --line: color-mix(in srgb, currentColor 18%, transparent); }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; padding: 0 1rem; max-width: 68rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .7rem; border-bottom: 1px solid var(--line); text-align: left; white-space: nowrap; }
.number { text-align: right; }
"""


class Html(View):
    """A page."""

    def render(self, title: str, sections: Sequence[Section], values: Mapping[str, Any]) -> str:
        """Return a page."""
        body = "\n".join([f"<h1>{escape(title)}</h1>", *map(_section, sections)])
        return (
            '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n{body}\n</html>"
        )


def _section(section: Section) -> str:
    parts = [f"<h2>{escape(section.heading)}</h2>", *(f"<p>{escape(line)}</p>" for line in section.text)]
    if section.columns:
        style = [' class="number"' if section.is_number(i) else "" for i in range(len(section.columns))]

        def row(cells: Sequence[str], tag: str) -> str:
            inner = "".join(f"<{tag}{s}>{escape(c)}</{tag}>" for c, s in zip(cells, style, strict=True))
            return f"<tr>{inner}</tr>"

        rows = [row(section.columns, "th"), *(row(cells, "td") for cells in section.written())]
        parts.append('<div class="scroll"><table>' + "\n".join(rows) + "</table></div>")
    return "\n".join(parts)
