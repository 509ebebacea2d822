"""Learning curves: expected cost, cross-entropy and accuracy of the w and θ phases, and of the final trainings."""

import math

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fbsearch.plots import COLOURS
from fbsearch.plots.record import Record
from fbsearch.plots.theta import draw_cost, finish_epochs

LABELS = {"cross_entropy": "cross-entropy", "accuracy_percent": "accuracy (%)"}


def draw_curves(record: Record) -> Figure:
    """Draw the search above, the final trainings and each objective's expected cost in further panels."""
    is_trained = bool(record.training)
    count = len(LABELS) * (1 + is_trained) + len(record.objectives)
    columns = 2 + (count > 4)
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(3.6 * columns, 2.7 * rows), layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in panels[count:]:
        axes.set_axis_off()
    for key, label in LABELS.items():
        axes = panels.pop(0)
        axes.plot(record.numbers, [getattr(e, f"w_{key}") for e in record.epochs], color="0.3", label="w")
        for name, colour in zip(record.objectives, COLOURS, strict=False):
            if record.warmup < len(record.epochs):
                axes.plot(record.numbers, record.theta_phase(name, key), color=colour, label=f"θ, {name}")
        axes.set(title="search", ylabel=label)
        axes.legend(framealpha=0.8, edgecolor="none")
        finish_epochs(record, axes)
    for name in record.objectives:
        axes = panels.pop(0)
        draw_cost(record, name, axes)
        axes.set_title(name)
    for key, label in LABELS.items() if is_trained else ():
        axes = panels.pop(0)
        for colour, (stage, epochs) in zip(COLOURS, record.training.items(), strict=False):
            axes.plot([e.epoch + 1 for e in epochs], [getattr(e, key) for e in epochs], color=colour, label=stage)
        axes.set(title="final training, from scratch", xlabel="epoch", ylabel=label)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.legend(framealpha=0.8, edgecolor="none")
    return figure
