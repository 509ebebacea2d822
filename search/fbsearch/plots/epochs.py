"""What changes over the epochs: P_θ as heat maps with τ and entropy, costs, and the curves of what was learned."""

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator

from fbsearch.plots import COLOURS, cost_scale
from fbsearch.plots.run import Run

COLOUR_MAP = "cividis"  # read alike with and without colour blindness, and in grey
LABELS = {"cross_entropy": "cross-entropy", "accuracy_percent": "accuracy (%)"}


def plot_theta(run: Run, name: str) -> Figure:
    """Draw P_θ, a panel per decision, with the option of the network found marked; below τ, entropy and cost."""
    objective = run.objectives[name]
    p = {layer: run.probabilities(name, layer) for layer in objective.theta}
    columns = 4 if len(p) <= 8 else 6
    rows = math.ceil(len(p) / columns)
    heights = [rows * (0.13 * max(map(len, p.values())) + 0.5), 1.9]
    figure = Figure(figsize=(1.2 + 1.9 * columns, sum(heights)), layout="constrained")
    maps, strip = figure.subfigures(2, 1, height_ratios=heights, squeeze=False)[:, 0]
    panels = maps.subplots(rows, columns, squeeze=False)
    for axes in panels.flat[len(p) :]:
        axes.set_axis_off()
    extent = run.numbers[0] - 0.5, run.numbers[-1] + 0.5
    largest = max(max(p_l.max(), 2 / len(p_l)) for p_l in p.values())  # so that the uniform start is not the brightest
    alike = len({tuple(options) for options in objective.theta.values()}) == 1
    for number, (axes, (layer, p_l)) in enumerate(zip(panels.flat, p.items(), strict=False)):
        names = list(objective.theta[layer])
        sides = (*extent, len(names) - 0.5, -0.5)
        image = axes.imshow(p_l, COLOUR_MAP, aspect="auto", interpolation="nearest", vmin=0, vmax=largest, extent=sides)
        axes.set_title(layer.replace("_0", "_").replace("_", " "), fontsize=8)
        axes.set_yticks(range(len(names)), names if number % columns == 0 or not alike else [""] * len(names))
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.tick_params(labelsize=7, labelbottom=number + columns >= len(p))
        axes.set_xlabel("epoch" if number >= columns * (rows - 1) else "")
        if name in run.ranked:
            chosen = run.ranked[name][0].choices[number]
            height = 1 - (names.index(chosen) + 0.5) / len(names)
            axes.plot(1.03, height, "<", color=COLOURS[1], markersize=5, transform=axes.transAxes, clip_on=False)
    maps.colorbar(image, ax=panels, label="$P_θ$ = softmax(θ)", aspect=40, pad=0.02)
    maps.suptitle(f"{name}: probability of every candidate{', ◂ chosen' if name in run.ranked else ''}")

    temperature, entropy, cost = strip.subplots(1, 3)
    temperature.semilogy(run.numbers, [epoch.temperature for epoch in run.epochs], color="0.2")
    temperature.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    temperature.yaxis.set_major_formatter("{x:g}")
    temperature.minorticks_off()
    uniform = float(np.mean([math.log(len(p_l)) for p_l in p.values()]))
    entropy.plot(run.numbers, [epoch.objectives[name].entropy for epoch in run.epochs], color="0.2")
    entropy.axhline(uniform, color="0.5", linestyle=":", label="uniform")
    entropy.legend(frameon=False, loc="lower left")
    entropy.set_ylim(0, 1.1 * uniform)
    for axes, label in ((temperature, "temperature τ"), (entropy, "mean entropy (nats)")):
        axes.set_ylabel(label)
        finish_epochs(run, axes)
    plot_cost(run, name, cost)
    return figure


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


def plot_cost(run: Run, name: str, axes: Axes) -> None:
    """Draw an objective's expected cost over the epochs, and its target as a line."""
    objective = run.objectives[name]
    factor, label = cost_scale(objective.cost_unit)
    costs = [factor * epoch.objectives[name].expected_cost for epoch in run.epochs]
    axes.plot(run.numbers, costs, color="0.2")
    if objective.target is not None:
        target = factor * objective.target
        axes.axhline(target, color=COLOURS[1], linestyle="--", label=f"target {target:.4g}")
        axes.legend(framealpha=0.8, edgecolor="none")
    axes.set_ylabel(f"expected {label}")
    finish_epochs(run, axes)


def finish_epochs(run: Run, axes: Axes) -> None:
    """Name the axis of epochs, and grey those in which θ was held."""
    axes.set(xlabel="epoch", xlim=(run.numbers[0] - 0.5, run.numbers[-1] + 0.5))
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    if run.warmup:
        axes.axvspan(run.numbers[0] - 0.5, run.numbers[run.warmup - 1] + 0.5, color="0.93", linewidth=0)
