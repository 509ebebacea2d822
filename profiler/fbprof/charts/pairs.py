"""Charts of latencies against latencies: networks predicted and measured, operators of two tables."""

from collections.abc import Sequence
from pathlib import Path

from fblut.compare import Comparison
from fbprof.charts import COLORS, OTHER, Chart, axis, diagonal


def validation(predicted_ms: Sequence[float], measured_ms: Sequence[float], names: Sequence[str]) -> Chart:
    """Return the chart of networks, predicted by the table against measured on the device."""
    every = [*predicted_ms, *measured_ms]
    points = {
        "type": "scatter",
        "mode": "markers",
        "name": "networks",
        "x": list(measured_ms),
        "y": list(predicted_ms),
        "text": list(names),
        "hovertemplate": "%{text}<br>measured %{x:.3f} ms, predicted %{y:.3f} ms<extra></extra>",
        "marker": {"color": COLORS[3], "size": 7},
    }
    error = 100 * sum(abs(p / m - 1) for p, m in zip(predicted_ms, measured_ms, strict=True)) / len(measured_ms)
    note = f"{len(measured_ms)} networks; the prediction is off by {error:.2f} % in the mean."
    layout = {"xaxis": axis("measured (ms)"), "yaxis": axis("predicted (ms)")}
    return Chart("validation", "Predicted against measured", note, [diagonal(min(every), max(every)), points], layout)


def comparison(first: str, second: str, result: Comparison, number: int) -> Chart:
    """Return the chart of the operators of two tables."""
    ends = [min(o.first_us for o in result.operators), max(o.first_us for o in result.operators)]
    mean = result.mean.ratio
    line = {"color": "#8c8c8c", "width": 1, "dash": "dot"}
    middle = [end * mean for end in ends]
    data: list[dict[str, object]] = [
        {"type": "scatter", "mode": "lines", "x": ends, "y": middle, "name": f"mean: {mean:.2f} x", "line": line}
    ]
    for kernel in sorted({o.spec.kernel for o in result.operators}):
        shown = [o for o in result.operators if o.spec.kernel == kernel]
        data.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": f"kernel {kernel}",
                "x": [o.first_us for o in shown],
                "y": [o.second_us for o in shown],
                "text": [f"{o.key}<br>ratio {o.ratio:.2f}" for o in shown],
                "hovertemplate": "%{text}<extra></extra>",
                "marker": {"color": COLORS.get(kernel, OTHER), "size": 7, "opacity": 0.8},
            }
        )
    note = f"What lies above the line is dearer on {Path(second).stem} than its other operators are."
    layout = {
        "xaxis": axis(f"{Path(first).stem} (µs)", type="log"),
        "yaxis": axis(f"{Path(second).stem} (µs)", type="log"),
    }
    return Chart(f"comparison-{number}", f"{Path(second).stem} against {Path(first).stem}", note, data, layout)
