"""Charts of a measurement, from its journal: the drift that was taken out, noise, and the device's conditions."""

import math
import statistics

from fbprof.charts import COLORS, OTHER, Chart, Charts, Reported, axis, line
from fbprof.estimate.samples import usable_samples
from fbprof.estimate.table import interquartile_range
from fbprof.journal.conditions import clocks_ghz, temperatures_c

MOST_POINTS = 1500
"""A line of more points is thinned out."""


class MeasuringCharts(Charts):
    """Drift, noise and conditions."""

    place = 40

    def charts_of(self, reported: Reported) -> list[Chart]:
        """Return the charts of a run, of which there is a journal."""
        content = reported.journal
        if content is None:
            return []
        samples = usable_samples(content)
        found = []
        if samples.drift is not None:
            percent = [100 * math.expm1(value) for value in samples.drift.log_factor.tolist()]
            found.append(_line("drift", "Drift", "slower than the mean (%)", {"device": percent}, DRIFT))
        spread = {
            key: 100 * interquartile_range(medians) / statistics.median(medians)
            for key in samples.visits_us
            if len(medians := samples.medians_us(key)) > 1
        }
        if spread:
            histogram = {"type": "histogram", "x": list(spread.values()), "nbinsx": 40, "marker": {"color": COLORS[5]}}
            layout = {"xaxis": axis("spread over visits (%)"), "yaxis": axis("subjects"), "showlegend": False}
            found.append(Chart("noise", "Noise", NOISE, [histogram], layout))
        conditions = {"clock (GHz)": clocks_ghz(content), "temperature (°C)": temperatures_c(content)}
        known = {name: values for name, values in conditions.items() if values}
        if known:
            found.append(_line("conditions", "Conditions of the device", "", known, CONDITIONS))
        return found


DRIFT = (
    "How much slower the device was than in the mean of the run, visit by visit. It is estimated together with the "
    "operators, and taken out of them."
)
NOISE = "How far the middle half of the visits to one operator or network are apart, the drift taken out."
CONDITIONS = "What the device reported while it was measured, in order of time."


def _line(name: str, title: str, unit: str, series: dict[str, list[float]], note: str) -> Chart:
    data = []
    for (label, values), color in zip(series.items(), (COLORS[3], OTHER), strict=False):
        step = max(1, len(values) // MOST_POINTS)
        shown = values[::step]
        share = [100 * i * step / max(len(values) - 1, 1) for i in range(len(shown))]
        data.append(line(share, shown, color, label))
    return Chart(name, title, note, data, {"xaxis": axis("share of the run (%)"), "yaxis": axis(unit)})
