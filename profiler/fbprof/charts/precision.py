"""Chart of a network in several precisions: accuracy as runtimes compute it, against what the tables predict."""

import itertools

from fbbase.files import read_text
from fbbase.parsing import json_lines
from fbprof.charts import COLORS, OTHER, Chart, Charts, Reported, axis, points
from fbspace.architecture import load_architecture

ACCURACY = "accuracy.jsonl"
"""What `fbsearch eval -o` wrote, in the folder of a run."""
OF_PRECISION = {"float32": COLORS[3], "float16": COLORS[7], "int8": COLORS[5]}


class PrecisionCharts(Charts):
    """A network in several precisions."""

    place = 40

    def charts_of(self, reported: Reported) -> list[Chart]:
        """Return the chart of a run's network, where its accuracy was evaluated. Raises FbError for a damaged file."""
        folder = reported.run
        if folder is None or not (folder / ACCURACY).exists() or not (folder / "arch.json").exists():
            return []
        specs = load_architecture(str(folder / "arch.json")).specs()
        tables = [lut for lut in (reported.lut, *reported.others.values()) if not lut.missing(specs)]
        text, name = read_text(folder / ACCURACY, "accuracies"), f"{folder / ACCURACY} of fbsearch eval -o"
        lines = json_lines(text, name, lambda one: ((one["runtime"], one["precision"]), float(one["top1_percent"])))
        found = {(str(runtime), str(precision)): percent for (runtime, precision), percent in lines}
        data, words = [], []
        for (key, percent), lut in itertools.product(found.items(), tables):
            runtime, precision = lut.metadata.runtime, lut.metadata.precision
            if key == (runtime, precision):
                marker = {"size": 12, "color": OF_PRECISION.get(precision, OTHER)}
                latency_ms = lut.predict_us(specs) / 1e3
                where, shown = f"{precision}, {lut.metadata.device}, {runtime}", f"{percent:.2f} %, {latency_ms:.3f} ms"
                data.append(points([latency_ms], [percent], f"{precision}: {shown}", name=where, marker=marker))
                words.append(f"{where}: {shown}")
        if not data:
            return []
        note = "Accuracy as the runtime computes it, and the latency that the table of its precision predicts. "
        layout = {"xaxis": axis("predicted latency (ms)"), "yaxis": axis("accuracy (%)")}
        return [Chart("precision", "Precisions side by side", note + "; ".join(words) + ".", data, layout)]
