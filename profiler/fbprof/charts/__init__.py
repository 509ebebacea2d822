"""Charts of the report, as plotly figures; one file for each thing that is looked at.

A file is a module with `PLACE`, the smaller the higher in the page, and `charts_of(reported) -> list[Chart]`, empty
where it has nothing to show. Colours of text and lines are the page's, which knows whether it is light or dark.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fbbase.plugins import PluginFolder

if TYPE_CHECKING:
    from fblut.compare import Comparison
    from fblut.table import Lut
    from fbprof.journal.journal import JournalContent
    from fbspace.space import Space

CHARTS = PluginFolder("kind of charts", "fbprof.charts")

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


@dataclass(frozen=True, slots=True)
class Reported:
    """What a report is about: a table by its name, and what is beside it; what there is not is None or empty.

    `others` are other tables, and `comparisons` with them, by the names of their files; `networks` are names of
    networks, what the table predicts of them and what was measured, in milliseconds; `run` is the folder of a search.
    """

    name: str
    lut: "Lut"
    space: "Space | None" = None
    journal: "JournalContent | None" = None
    others: Mapping[str, "Lut"] = field(default_factory=dict)
    comparisons: Mapping[str, "Comparison"] = field(default_factory=dict)
    networks: Sequence[tuple[str, float, float]] = ()
    run: Path | None = None


def every_chart(reported: Reported) -> list[Chart]:
    """Return the charts of all files, in their order."""
    modules = sorted((CHARTS.module(name) for name in CHARTS.names()), key=lambda module: float(module.PLACE))
    return [chart for module in modules for chart in module.charts_of(reported)]


def axis(title: str, **more: Any) -> dict[str, Any]:
    """Return an axis with a title."""
    return {"title": {"text": title}, **more}


def diagonal(low: float, high: float) -> dict[str, Any]:
    """Return the line on which two latencies are equal."""
    line = {"color": "#8c8c8c", "width": 1, "dash": "dot"}
    return {"type": "scatter", "mode": "lines", "x": [low, high], "y": [low, high], "name": "equal", "line": line}
