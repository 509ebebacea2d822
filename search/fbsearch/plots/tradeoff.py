"""Accuracy against cost: the networks compared at the end, the one chosen, the target, and the Pareto front."""

import math
from collections.abc import Sequence

from matplotlib.figure import Figure

from fbsearch.plots import COLOURS, cost_scale
from fbsearch.plots.run import Run

COLUMNS = 3


def pareto_front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return, by cost and each once, the points (cost, accuracy) than which none is cheaper and as good, or better."""
    front: list[tuple[float, float]] = []
    for cost, accuracy in sorted(points, key=lambda point: (point[0], -point[1])):
        if not front or accuracy > front[-1][1]:
            front.append((cost, accuracy))
    return front


def plot_tradeoff(run: Run) -> Figure:
    """Draw a panel per objective; accuracy is that of the supernet's weights, by which networks are ranked."""
    columns = min(COLUMNS, len(run.ranked))
    rows = math.ceil(len(run.ranked) / columns)
    figure = Figure(figsize=(0.6 + 3.9 * columns, 0.5 + 3.4 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).flat
    for axes in panels[len(run.ranked) :]:
        axes.set_axis_off()
    for axes, (name, candidates) in zip(panels, run.ranked.items(), strict=False):
        factor, label = cost_scale(run.objectives[name].cost_unit)
        target = run.objectives[name].target
        points = [(factor * each.cost, each.accuracy_percent) for each in candidates]
        front = list(zip(*pareto_front(points), strict=True))
        axes.step(*front, "o", where="post", color="0.5", linestyle="-", ms=9, mfc="none", label="Pareto front")
        axes.scatter(*zip(*points, strict=True), s=22, color=COLOURS[0], label=f"{len(points)} networks", zorder=2)
        axes.scatter(*points[0], s=140, marker="*", color=COLOURS[1], edgecolor="k", label="chosen", zorder=3)  # ranked
        if target is not None:
            axes.axvline(factor * target, color="k", linestyle="--", linewidth=1, label=f"target {factor * target:.4g}")
        axes.margins(0.12)
        axes.set(title=name, xlabel=label, ylabel="accuracy, supernet's weights (%)")
        axes.legend(framealpha=0.8, edgecolor="none")
    return figure
