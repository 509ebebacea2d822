"""Charts of the report, as plotly figures; one file for each thing that is looked at.

Colours of text and lines are the page's, which knows whether it is light or dark.
"""

from dataclasses import dataclass
from typing import Any

COLORS = {1: "#8c8c8c", 3: "#56b4e9", 5: "#e69f00", 7: "#009e73"}
"""Colours of kernels, told apart by eyes of every kind (Okabe and Ito)."""
OTHER = "#cc79a7"


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart: `name` is its place in the page, `note` says how to read it, `data` and `layout` are plotly's."""

    name: str
    title: str
    note: str
    data: list[dict[str, Any]]
    layout: dict[str, Any]


def axis(title: str, **more: Any) -> dict[str, Any]:
    """Return an axis with a title."""
    return {"title": {"text": title}, **more}


def diagonal(low: float, high: float) -> dict[str, Any]:
    """Return the line on which two latencies are equal."""
    line = {"color": "#8c8c8c", "width": 1, "dash": "dot"}
    return {"type": "scatter", "mode": "lines", "x": [low, high], "y": [low, high], "name": "equal", "line": line}
