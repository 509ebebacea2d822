"""Learning curves: expected cost, cross-entropy and accuracy of the w and θ phases, and of the final trainings."""

import math

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fbsearch.plots import COLOURS
from fbsearch.plots.run import Run
from fbsearch.plots.theta import finish_epochs, plot_cost

LABELS = {"cross_entropy": "cross-entropy", "accuracy_percent": "accuracy (%)"}


def plot_curves(run: Run) -> Figure:
    """Draw the search above, the final trainings and each objective's expected cost in further panels."""
    is_trained = bool(run.training)
    count = len(LABELS) * (1 + is_trained) + len(run.objectives)
    columns = 2 + (count > 4)
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(3.6 * columns, 2.7 * rows), layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in panels[count:]:
        axes.set_axis_off()
    for key, label in LABELS.items():
        axes = panels.pop(0)
        axes.plot(run.numbers, [getattr(e, f"w_{key}") for e in run.epochs], color="0.3", label="w")
        for name, colour in zip(run.objectives, COLOURS, strict=False):
            if run.warmup < len(run.epochs):
                axes.plot(run.numbers, run.theta_phase(name, key), color=colour, label=f"θ, {name}")
        axes.set(title="search", ylabel=label)
        axes.legend(framealpha=0.8, edgecolor="none")
        finish_epochs(run, axes)
    for name in run.objectives:
        axes = panels.pop(0)
        plot_cost(run, name, axes)
        axes.set_title(name)
    for key, label in LABELS.items() if is_trained else ():
        axes = panels.pop(0)
        for colour, (stage, epochs) in zip(COLOURS, run.training.items(), strict=False):
            axes.plot([e.epoch + 1 for e in epochs], [getattr(e, key) for e in epochs], color=colour, label=stage)
        axes.set(title="final training, from scratch", xlabel="epoch", ylabel=label)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.legend(framealpha=0.8, edgecolor="none")
    return figure
