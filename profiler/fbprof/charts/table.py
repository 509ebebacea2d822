"""Charts of a table: latency by layer and candidate, by multiply-accumulates, and how well each row is known."""

from fblut.check import half_width_percent
from fblut.table import Lut
from fbprof.charts import COLORS, OTHER, Chart, Charts, Reported, axis, heatmap, points
from fbspace.network import count_spec
from fbspace.space import Space


class TableCharts(Charts):
    """By layer, by multiply-accumulates, and the intervals."""

    place = 10

    def charts_of(self, reported: Reported) -> list[Chart]:
        """Return the charts of a table; by layer only where its space is known and chooses among blocks alone."""
        lut, space = reported.lut, reported.space
        found = [] if space is None or space.is_masked else [_by_layer(lut, space)]
        found.append(_by_macs(lut))
        if any(half_width_percent(row) is not None for row in lut.rows.values()):
            found.append(_intervals(lut))
        return found


def _by_layer(lut: Lut, space: Space) -> Chart:
    names = list(dict.fromkeys(name for layer in space.layers for name in layer.candidates))
    cells: list[list[float | None]] = []
    keys: list[list[str]] = []
    for name in names:
        specs = [layer.candidates.get(name) for layer in space.layers]
        rows = [None if spec is None else lut.row(spec) for spec in specs]
        latencies_us = [None if row is None else row.latency_us for row in rows]
        cells.append([None if us is None else us / 1e3 for us in latencies_us])
        keys.append(["" if spec is None else spec.key() for spec in specs])
    layers = [str(layer.index) for layer in space.layers]
    heat = heatmap(layers, names, cells, keys, "layer %{x}, %{y}: %{z:.3f} ms<br>%{text}", "ms")
    note = "One cell is what a candidate adds to a network in that layer; identities add nothing."
    layout = {"xaxis": axis("layer", type="category"), "yaxis": axis("", autorange="reversed")}
    return Chart("by-layer", "Latency by layer and candidate", note, [heat], layout)


def _by_macs(lut: Lut) -> Chart:
    rows = [row for row in lut.rows.values() if row.latency_us is not None]
    data = []
    for kernel in sorted({row.spec.kernel for row in rows}):
        shown = [row for row in rows if row.spec.kernel == kernel]
        latency_us = [row.latency_us or 0.0 for row in shown]
        mmacs, text = [count_spec(row.spec).macs / 1e6 for row in shown], [row.spec.key() for row in shown]
        marker = {"color": COLORS.get(kernel, OTHER), "size": 7, "opacity": 0.8}
        hover = "%{text}<br>%{x:.3f} M MACs, %{y:.1f} µs"
        trace = points(mmacs, latency_us, hover, name=f"kernel {kernel}", text=text, marker=marker)
        if all(row.ci_high_us is not None and row.ci_low_us is not None for row in shown):
            trace["error_y"] = {
                "type": "data",
                "symmetric": False,
                "array": [(row.ci_high_us or 0) - us for row, us in zip(shown, latency_us, strict=True)],
                "arrayminus": [us - (row.ci_low_us or 0) for row, us in zip(shown, latency_us, strict=True)],
                "thickness": 1,
                "width": 0,
            }
        data.append(trace)
    note = (
        "Were latency proportional to multiply-accumulates, all points would lie on one line. Bars are 95 % intervals."
    )
    layout = {"xaxis": axis("million multiply-accumulates", type="log"), "yaxis": axis("latency (µs)", type="log")}
    return Chart("by-macs", "Latency against multiply-accumulates", note, data, layout)


def _intervals(lut: Lut) -> Chart:
    widths = [half for row in lut.rows.values() if (half := half_width_percent(row)) is not None]
    histogram = {"type": "histogram", "x": widths, "nbinsx": 40, "marker": {"color": COLORS[3]}}
    note = "Half of each operator's 95 % interval, timed alone: how exactly the rows are known."
    layout = {"xaxis": axis("± percent of the latency"), "yaxis": axis("operators"), "showlegend": False}
    return Chart("intervals", "How exactly operators are known", note, [histogram], layout)
