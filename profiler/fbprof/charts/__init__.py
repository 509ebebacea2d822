"""Charts of the report, as plotly figures; one file for each thing that is looked at."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from fbbase.plugins import Plugins

if TYPE_CHECKING:
    from fblut.compare import Comparison
    from fblut.table import Lut
    from fbprof.journal.journal import JournalContent
    from fbspace.space import Space

COLORS = {1: "#8c8c8c", 3: "#56b4e9", 5: "#e69f00", 7: "#009e73"}
"""Colours of kernels, for colour-blind eyes too (Okabe and Ito)."""
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
    """What a report is about: a table by its name, and what belongs to it; None or empty where there is none.

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


class Charts(ABC):
    """The charts of one thing; options that a class declares (`fbbase.options`) are options of `fbprof report`."""

    place: ClassVar[float] = 50
    """The smaller, the higher in the page: tables are at 10, pairs of latencies at 20, searches at 30, runs at 40."""

    @abstractmethod
    def charts_of(self, reported: Reported) -> list[Chart]:
        """Return the charts, none where there is nothing to show. Raises FbError for what a person has to know.

        Colours of text and lines are the page's, which knows whether it is light or dark.
        """


CHARTS = Plugins("kind of charts", "fbprof.charts", base=Charts)


def every_chart(reported: Reported, options: Mapping[str, Any]) -> list[Chart]:
    """Return the charts of all files, each with its own of the options, in their order."""
    every = [CHARTS.load_with(name, options) for name in CHARTS.names()]
    return [chart for charts in sorted(every, key=lambda each: each.place) for chart in charts.charts_of(reported)]


def axis(title: str, **more: Any) -> dict[str, Any]:
    """Return an axis with a title."""
    return {"title": {"text": title}, **more}


def points(x: Sequence[Any], y: Sequence[Any], hover: str, **more: Any) -> dict[str, Any]:
    """Return points; `hover` is what is shown of one, in plotly's words for its place and `text`."""
    return {"type": "scatter", "mode": "markers", "x": x, "y": y, "hovertemplate": f"{hover}<extra></extra>", **more}


def heatmap(
    x: Sequence[Any], y: Sequence[str], z: Sequence[Any], text: Sequence[Any], hover: str, unit: str, **more: Any
) -> dict[str, Any]:
    """Return a map of rows `z`; `hover` is what is shown of a cell, as for points, and `unit` is of its colours."""
    cells = {"type": "heatmap", "x": x, "y": y, "z": z, "text": text, "hovertemplate": f"{hover}<extra></extra>"}
    return {**cells, "colorscale": "Viridis", **more, "colorbar": {"title": {"text": unit}}}


def line(x: Sequence[Any], y: Sequence[Any], color: str, name: str, **more: Any) -> dict[str, Any]:
    """Return a line."""
    return {"type": "scatter", "mode": "lines", "x": x, "y": y, "name": name, "line": {"color": color, **more}}


def diagonal(low: float, high: float) -> dict[str, Any]:
    """Return the line on which two latencies are equal."""
    return line([low, high], [low, high], COLORS[1], "equal", width=1, dash="dot")
