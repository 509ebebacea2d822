"""Charts of latencies against latencies: networks predicted and measured, operators of two tables."""

from collections.abc import Sequence
from pathlib import Path

from fblut.compare import Comparison
from fbprof.charts import COLORS, OTHER, Chart, Charts, Reported, axis, diagonal, line, points


class PairCharts(Charts):
    """Networks predicted and measured, and operators in two tables."""

    place = 20

    def charts_of(self, reported: Reported) -> list[Chart]:
        """Return the chart of the networks that were measured, and one of each other table."""
        found = [_validation(reported.networks)] if reported.networks else []
        for number, (name, result) in enumerate(reported.comparisons.items(), start=1):
            found.append(_comparison(reported.name, Path(name).stem, result, number))
        return found


def _validation(networks: Sequence[tuple[str, float, float]]) -> Chart:
    """Return the chart of networks, predicted by the table against measured on the device."""
    names, predicted_ms, measured_ms = zip(*networks, strict=True)
    every = [*predicted_ms, *measured_ms]
    marker = {"color": COLORS[3], "size": 7}
    hover = "%{text}<br>measured %{x:.3f} ms, predicted %{y:.3f} ms"
    shown = points(measured_ms, predicted_ms, hover, name="networks", text=names, marker=marker)
    error = 100 * sum(abs(p / m - 1) for _, p, m in networks) / len(networks)
    note = f"{len(networks)} networks; the prediction is off by {error:.2f} % in the mean."
    layout = {"xaxis": axis("measured (ms)"), "yaxis": axis("predicted (ms)")}
    return Chart("validation", "Predicted against measured", note, [diagonal(min(every), max(every)), shown], layout)


def _comparison(first: str, second: str, result: Comparison, number: int) -> Chart:
    """Return the chart of the operators of two tables."""
    ends = [min(o.first_us for o in result.operators), max(o.first_us for o in result.operators)]
    mean = result.mean.ratio
    data = [line(ends, [end * mean for end in ends], COLORS[1], f"mean: {mean:.2f} x", width=1, dash="dot")]
    for kernel in sorted({o.spec.kernel for o in result.operators}):
        shown = [o for o in result.operators if o.spec.kernel == kernel]
        x, y = [o.first_us for o in shown], [o.second_us for o in shown]
        text = [f"{o.key}<br>ratio {o.ratio:.2f}" for o in shown]
        marker = {"color": COLORS.get(kernel, OTHER), "size": 7, "opacity": 0.8}
        data.append(points(x, y, "%{text}", name=f"kernel {kernel}", text=text, marker=marker))
    note = f"What lies above the line is slower on {second} than its other operators are."
    layout = {"xaxis": axis(f"{first} (µs)", type="log"), "yaxis": axis(f"{second} (µs)", type="log")}
    return Chart(f"comparison-{number}", f"{second} against {first}", note, data, layout)
