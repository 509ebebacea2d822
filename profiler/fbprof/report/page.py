"""Page: a report as one HTML file that needs nothing else: plotly, data, style and script are all in it."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from html import escape
from typing import Any

from fblut.compare import Comparison
from fblut.table import Lut
from fbprof.charts import Chart
from fbprof.report.shell import filled
from fbspace.network import count_spec

COLUMNS = ("operator", "kind", "kernel", "expansion", "input", "million MACs", "latency µs", "low", "high", "status")


def page(title: str, lut: Lut, answer: str, charts: Sequence[Chart], comparisons: dict[str, Comparison]) -> str:
    """Return the report of a table; `comparisons` are its operators' ratios in other tables, by their names.

    `answer` is its first screen, as markup.
    """
    from plotly.offline import get_plotlyjs

    parts = {
        "PLOTLY": get_plotlyjs(),
        "TITLE": escape(title),
        "HEAD": answer + _head(lut),
        "CHARTS": "\n".join(map(_figure, charts)),
        "FACTS": _facts(lut),
        "DATA": _embed({"charts": [asdict(chart) for chart in charts], "table": _table(lut, comparisons)}),
    }
    return filled("page.html", parts)


def _head(lut: Lut) -> str:
    metadata = lut.metadata
    measured = [row for row in lut.rows.values() if row.latency_us is not None]
    tiles = {
        "operators": f"<b>{len(measured)}</b> of {len(lut.rows)}",
        "runtime": f"<b>{escape(metadata.runtime)}</b> {escape(metadata.runtime_version)}",
        "precision": f"<b>{escape(metadata.precision)}</b>, {metadata.threads} thread{'s' * (metadata.threads != 1)}",
    }
    if metadata.network_error_percent is not None:
        tiles["unseen networks"] = f"± <b>{metadata.network_error_percent:.2f} %</b>"
    shown = "".join(f"<div><span>{name}</span>{value}</div>" for name, value in tiles.items())
    return f'<div class="tiles">{shown}</div>'


def _figure(chart: Chart) -> str:
    return (
        f'<section><h2>{escape(chart.title)}</h2><p>{escape(chart.note)}</p><div class="chart" '
        f'id="{escape(chart.name, quote=True)}"></div></section>'
    )


def _facts(lut: Lut) -> str:
    stated = lut.metadata.stated().items()
    rows = "".join(f"<tr><th>{escape(key)}</th><td>{escape(str(value))}</td></tr>" for key, value in stated)
    return f"<table>{rows}</table>"


def _table(lut: Lut, comparisons: dict[str, Comparison]) -> dict[str, Any]:
    """Return the rows that the page's script sorts and filters."""
    ratios = [{o.key: o.ratio for o in result.operators} for result in comparisons.values()]
    rows = []
    for key, row in lut.rows.items():
        spec, kind = row.spec, " ".join([row.spec.kind, *row.spec.own])
        cells = [key, kind, spec.kernel, spec.expansion, f"{spec.in_channels}x{spec.height}x{spec.width}"]
        cells += [count_spec(spec).macs / 1e6, row.latency_us, row.ci_low_us, row.ci_high_us]
        rows.append([*cells, row.status + (f": {row.notes}" if row.notes else ""), *(r.get(key) for r in ratios)])
    return {"columns": [*COLUMNS, *(f"ratio of {name}" for name in comparisons)], "rows": rows}


def _embed(data: object) -> str:
    """Return JSON that may stand in a script: no tag can end within it."""
    return json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
