"""Charts of a search, from its run's folder: θ over time, the front of networks, the network found."""

import math
from typing import Any

from fbbase.errors import FbError
from fbbase.files import read_text
from fbbase.parsing import json_lines
from fblut.table import Lut
from fbprof.charts import COLORS, OTHER, Chart, Charts, Reported, axis, heatmap, points
from fbspace.architecture import Architecture, load_architecture

MOST_DECISIONS = 60


class SearchCharts(Charts):
    """θ over time, and the networks found."""

    place = 30

    def charts_of(self, reported: Reported) -> list[Chart]:
        """Return the charts of a run. Raises FbError where the folder is not that of a search."""
        folder = reported.run
        if folder is None:
            return []
        text = read_text(folder / "metrics.jsonl", "record of a search")
        lines = json_lines(
            text, str(folder / "metrics.jsonl"), lambda line: line if line["stage"] == "search" else None
        )
        epochs = [line for line in lines if line is not None]
        try:
            found = [_theta(name, epochs) for name in epochs[-1]["objectives"]]
        except (LookupError, TypeError, AttributeError, ArithmeticError, ValueError) as error:
            raise FbError(f"{folder / 'metrics.jsonl'} is not the record of a search ({error!r})") from None
        for path in sorted(folder.glob("arch*.json")):
            architecture = load_architecture(str(path))
            try:
                found += _front(architecture, path.stem)
            except (LookupError, TypeError, AttributeError, ValueError) as error:
                raise FbError(f"{path}: its provenance is not that of a search ({error!r})") from None
            found.append(_network(architecture, path.stem, reported.lut))
        return found


def _theta(name: str, epochs: list[dict[str, Any]]) -> Chart:
    """Return how sure every decision is, over the epochs: the largest probability of its options."""
    last = epochs[-1]["objectives"][name]["theta"]
    decisions = list(last)[:MOST_DECISIONS]
    cells, words = [], []
    for decision in decisions:
        likeliest = [_likeliest(epoch["objectives"][name]["theta"][decision]) for epoch in epochs]
        cells.append([probability for _, probability in likeliest])
        words.append([option for option, _ in likeliest])
    numbers = [epoch["epoch"] + 1 for epoch in epochs]
    hover = "epoch %{x}, %{y}: %{text} with %{z:.2f}"
    heat = heatmap(numbers, decisions, cells, words, hover, "P", zmin=0, zmax=1)
    layout = {"xaxis": axis("epoch"), "yaxis": axis("", autorange="reversed", dtick=1)}
    note = "The probability of the likeliest option of every decision, epoch by epoch; hover to see which it is."
    return Chart(f"theta-{name}", f"θ over time: {name}", note, [heat], layout)


def _likeliest(theta: dict[str, float]) -> tuple[str, float]:
    """Return the likeliest option and its probability, by softmax."""
    option = max(theta, key=theta.__getitem__)
    return option, 1 / sum(math.exp(value - theta[option]) for value in theta.values())


def _front(architecture: Architecture, stem: str) -> list[Chart]:
    """Return the networks that were compared at the end, where the file lists them."""
    ranked = architecture.provenance.get("candidates") or []
    if not ranked:
        return []
    _, unit = architecture.provenance.get("target") or (None, "")
    costs, accuracies = [one["cost"] for one in ranked], [one["accuracy_percent"] for one in ranked]
    marker = {"size": 9, "color": [COLORS[5], *[COLORS[3]] * (len(ranked) - 1)]}
    text = [" ".join(one["choices"]) for one in ranked]
    data = points(costs, accuracies, "%{text}<br>%{x:.1f}, %{y:.1f} %", text=text, marker=marker)
    note = "The networks compared at the end, by the supernet's weights; the first, in another colour, was taken."
    layout = {"xaxis": axis(f"cost ({unit})"), "yaxis": axis("validation accuracy (%)"), "showlegend": False}
    return [Chart(f"front-{stem}", f"Accuracy against cost: {stem}", note, [data], layout)]


def _network(architecture: Architecture, stem: str, lut: Lut) -> Chart:
    """Return the network as bars, an operator each: what the table says it takes."""
    specs = architecture.specs()
    rows = [lut.row(spec) for spec in specs]
    bars = {
        "type": "bar",
        "x": [" ".join([str(i), s.kind, f"k{s.kernel} e{s.expansion:g}", *s.own]) for i, s in enumerate(specs, 1)],
        "y": [None if row is None else row.latency_us for row in rows],
        "text": [spec.key() for spec in specs],
        "hovertemplate": "%{text}<br>%{y:.1f} µs<extra></extra>",
        "textposition": "none",
        "marker": {"color": [COLORS.get(spec.kernel, OTHER) for spec in specs]},
    }
    note = (
        f"{len(specs)} operators from the input to the classifier, without identities; colours are kernels, as above."
    )
    if architecture.predicted is not None:
        note += f" Predicted: {architecture.predicted.latency_us / 1e3:.3f} ms."
    accuracy = architecture.provenance.get("test_accuracy_percent")
    if accuracy is not None:
        note += f" Test accuracy: {accuracy:.2f} %."
    layout = {"xaxis": axis("", tickangle=-60), "yaxis": axis("latency (µs)"), "showlegend": False}
    return Chart(f"network-{stem}", f"The network found: {architecture.name}", note, [bars], layout)
