"""The network found, a box per operator, as in the FBNet paper's figure; several networks in rows to compare."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from fbbase.errors import FbError
from fblut.reading import read_lut
from fbsearch.errors import SearchError
from fbspace.architecture import Architecture
from fbspace.blocks import block_of, is_identity
from fbspace.opspec import OpSpec
from fbspace.space import Space

KERNEL_COLOURS = {1: "#BBBBBB", 3: "#56B4E9", 5: "#E69F00", 7: "#009E73"}
OTHER_COLOUR = "#CC79A7"
GROUPED: dict[str, Any] = {"hatch": "////"}
SKIPPED: dict[str, Any] = {"linestyle": "--", "facecolor": "none"}
STAGE_GAP = 0.5  # in columns
COLUMN_INCHES, UNIT_INCHES, LETTER_UNITS = 0.4, 0.15, 0.42


def latency_shares(architecture: Architecture, specs: list[OpSpec], folder: Path | None) -> list[float] | None:
    """Return every operator's share of the predicted latency in percent, by the table that the file names.

    That is one that the run's folder keeps in tables/, or a path. None where the file names none, or where that table
    is not there any more or lacks an operator.
    """
    if architecture.predicted is None:
        return None
    try:
        kept = (folder or Path()) / "tables" / f"{architecture.predicted.lut}.csv"
        lut = read_lut(kept if kept.exists() else Path(architecture.predicted.lut))
        return [100 * lut.latency_us(spec) / architecture.predicted.latency_us for spec in specs]
    except FbError:
        return None


def plot_networks(networks: Mapping[str, Architecture], folders: Mapping[str, Path] | None = None) -> Figure:
    """Draw networks of one space, a row each, the same layer of all of them in one column.

    `folders` are those of the runs that found them. Raises SearchError for several spaces.
    """
    spaces = sorted({network.space for network in networks.values()})
    if len(spaces) > 1:
        raise SearchError(f"only networks of one space can be compared, not of {' and '.join(spaces)}")
    space = next(iter(networks.values())).load_space()
    specs = {name: network.all_specs(space) for name, network in networks.items()}
    every = [spec for row in specs.values() for spec in row]
    tallest = max(spec.expansion for spec in every)
    words = max(len(word) for network in networks.values() for word in (*network.choices, "classifier"))
    numbers_at = -LETTER_UNITS * words - 1  # below the words, which stand upright; a line of numbers is a unit high
    limits = numbers_at - 2.6, tallest + 2
    width = 1.2 + COLUMN_INCHES * (max(map(len, specs.values())) + STAGE_GAP * (space.layers[-1].stage + 2))
    height = 0.4 + len(networks) * (UNIT_INCHES * (limits[1] - limits[0]) + 0.35)
    figure = Figure(figsize=(width, height), layout="constrained")
    rows = figure.subplots(len(networks), 1, squeeze=False).flat
    for axes, (name, network) in zip(rows, networks.items(), strict=True):
        axes.set_title(_title(name, network), loc="left")
        axes.set_ylim(limits)
        shares = latency_shares(network, specs[name], (folders or {}).get(name))
        _plot_row(axes, network, space, specs[name], shares, max(spec.kernel for spec in every), numbers_at)
    kernels = sorted({spec.kernel for spec in every if not is_identity(spec)})
    keys = [Patch(facecolor=_colour(kernel), edgecolor="k", label=f"kernel {kernel}") for kernel in kernels]
    keys.append(Patch(**GROUPED, facecolor="w", edgecolor="k", label="grouped 1x1"))
    keys.append(Patch(**SKIPPED, edgecolor="k", label="skip"))
    figure.legend(handles=keys, loc="outside lower center", ncols=len(keys), frameon=False)
    return figure


def _plot_row(
    axes: Axes,
    network: Architecture,
    space: Space,
    specs: list[OpSpec],
    shares: list[float] | None,
    widest: int,
    numbers_at: float,
) -> None:
    head = specs[len(space.stem) + len(space.layers) :]
    stages = [0] * len(space.stem) + [layer.stage for layer in space.layers]
    stages += [stages[-1] + 1] * len(head)
    names = ["stem"] * len(space.stem) + list(network.choices) + [spec.kind for spec in head]
    x = [column + STAGE_GAP * stage for column, stage in enumerate(stages)]
    numbers = {"channels": [str(spec.out_channels) for spec in specs], "output size": [_size(spec) for spec in specs]}
    if shares is not None:
        numbers["latency (%)"] = [f"{share:.1f}" for share in shares]
    for i, (spec, name) in enumerate(zip(specs, names, strict=True)):
        width = 0.5 if is_identity(spec) else 0.8 * spec.kernel / widest
        height = 0.3 if block_of(spec).leaves_out else spec.expansion
        style = {"facecolor": _colour(spec.kernel)} | (GROUPED if spec.groups > 1 else {})
        style = SKIPPED if is_identity(spec) else style
        axes.add_patch(Rectangle((x[i] - width / 2, 0), width, height, label=name, edgecolor="k", lw=0.7, **style))
        axes.text(x[i], -0.3, name, rotation=90, ha="center", va="top", fontsize=7)
        for line, values in enumerate(numbers.values()):
            axes.text(x[i], numbers_at - line, values[i], ha="center", va="center", fontsize=6.5)
        if i and stages[i] != stages[i - 1]:
            axes.axvline((x[i] + x[i - 1]) / 2, color="0.7", linestyle=":", linewidth=0.8)
    marks = {numbers_at - line: name for line, name in enumerate(numbers)}
    marks |= {spec.expansion: f"expansion {spec.expansion:g}" for spec in specs}
    axes.set_yticks(list(marks), list(marks.values()), fontsize=7)
    _finish_row(axes, x, stages)


def _finish_row(axes: Axes, x: list[float], stages: list[int]) -> None:
    for stage in range(1, stages[-1]):
        inside = [at for at, each in zip(x, stages, strict=True) if each == stage]
        text = f"stage {stage}" if len(inside) > 1 else str(stage)
        axes.text((inside[0] + inside[-1]) / 2, axes.get_ylim()[1] - 1, text, ha="center", va="center")
    axes.axhline(0, color="k", linewidth=0.7)
    axes.set(xlim=(-0.7, x[-1] + 0.7), xticks=[])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _title(name: str, network: Architecture) -> str:
    predicted, parts = network.predicted, []
    if predicted is not None:
        parts.append(f"{predicted.latency_us / 1000:.4g} ms predicted on {predicted.device} ({predicted.runtime})")
    if target := network.provenance.get("target"):
        value, unit = target
        parts.append(f"target {value / 1000:.4g} ms" if unit == "µs" else f"target {value:.4g} {unit}")
    if (accuracy := network.provenance.get("test_accuracy_percent")) is not None:
        parts.append(f"test accuracy {accuracy:.1f} %")
    return f"{name}: {', '.join(parts)}" if parts else name


def _size(spec: OpSpec) -> str:
    height, width = block_of(spec).output_size(spec)
    return f"{height}²" if height == width else f"{height}×{width}"


def _colour(kernel: int) -> str:
    return KERNEL_COLOURS.get(kernel, OTHER_COLOUR)
