"""Plot: latencies against latencies, as PNG or SVG; the same figures give the same SVG."""

import contextlib
import importlib
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fbbase.errors import FbError
from fbbase.files import write_bytes
from fblut.compare import Comparison

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from fbprof.predict.error import Result

SUFFIXES = (".png", ".svg")
BAND_PERCENT = 5.0
SIZE_INCHES = 5.5
DOTS_PER_INCH = 150
MARKERS = "osD^vP*X"


def check_plot_path(path: Path) -> None:
    """Raise FbError for a file that is neither PNG nor SVG by its name, ModuleNotFoundError without matplotlib."""
    if path.suffix.lower() not in SUFFIXES:
        raise FbError(f"a plot is a {' or '.join(SUFFIXES)} file, not {path.name!r}: choose one of these endings")
    importlib.import_module("matplotlib.figure")


def plot_results(results: "Sequence[Result]", title: str, path: Path) -> None:
    """Draw measured latencies to the right and predicted ones upwards, in milliseconds, with a band of ±5 %.

    Raises FbError for another ending than .png and .svg, StorageError.
    """
    with _drawing(path) as axes:
        largest_ms = max(max(r.measured_us, r.predicted.latency_us) for r in results) / 1e3
        smallest_ms = min(min(r.measured_us, r.predicted.latency_us) for r in results) / 1e3
        margin_ms = 0.05 * (largest_ms - smallest_ms) or 0.05 * largest_ms
        ends = [smallest_ms - margin_ms, largest_ms + margin_ms]
        low, high = ([end * (1 + sign * BAND_PERCENT / 100) for end in ends] for sign in (-1, 1))
        axes.fill_between(ends, low, high, color="0.92", linewidth=0, label=f"±{BAND_PERCENT:g} %")
        axes.plot(ends, ends, color="0.5", linewidth=0.8, label="predicted = measured")
        for is_published, marker, label in ((False, "o", "random networks"), (True, "D", "published networks")):
            shown = [r for r in results if r.candidate.is_published == is_published]
            if shown:
                measured_ms = [r.measured_us / 1e3 for r in shown]
                predicted_ms = [r.predicted.latency_us / 1e3 for r in shown]
                axes.scatter(measured_ms, predicted_ms, s=16, marker=marker, alpha=0.8, label=label)
        axes.set(xlim=ends, ylim=ends, aspect="equal", title=title)
        axes.set(xlabel="measured latency (ms)", ylabel="predicted latency (ms)")
        axes.legend(loc="upper left", frameon=False)


def plot_comparison(first: str, results: Mapping[str, Comparison], path: Path) -> None:
    """Draw the latencies of a baseline's operators to the right and those of other tables upwards, both logarithmic.

    What lies above a table's line is slower than the mean ratio. Colours are kernels, markers are tables.
    Raises FbError for another ending than .png and .svg, StorageError.
    """
    with _drawing(path) as axes:
        every = [o for result in results.values() for o in result.operators]
        colors = {kernel: f"C{i}" for i, kernel in enumerate(sorted({o.spec.kernel for o in every}))}
        ends = [min(o.first_us for o in every) * 0.9, max(o.first_us for o in every) * 1.1]
        for number, (name, result) in enumerate(results.items()):
            marker = MARKERS[number % len(MARKERS)]
            mean = result.mean.ratio
            axes.plot(ends, [end * mean for end in ends], color="0.6", linewidth=0.8, label=f"{name}: {mean:.2f} x")
            for kernel, color in colors.items():
                shown = [o for o in result.operators if o.spec.kernel == kernel]
                x, y = [o.first_us for o in shown], [o.second_us for o in shown]
                axes.scatter(x, y, s=12, marker=marker, color=color, alpha=0.7, linewidth=0)
        for kernel, color in colors.items():
            axes.scatter([], [], s=12, color=color, label=f"kernel {kernel}")
        other = next(iter(results)) if len(results) == 1 else "the others"
        axes.set(xscale="log", yscale="log", xlabel=f"{first} (µs)", ylabel=f"{other} (µs)", title="operators")
        axes.legend(loc="upper left", frameon=False)


@contextlib.contextmanager
def _drawing(path: Path) -> "Iterator[Axes]":
    """Give axes to draw on, and write the file at the end."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    check_plot_path(path)
    format_name = path.suffix.lower().removeprefix(".")
    with rc_context({"svg.hashsalt": "fbprof", "font.size": 9}):
        figure = Figure(figsize=(SIZE_INCHES, SIZE_INCHES), layout="constrained")
        yield figure.add_subplot()
        content = io.BytesIO()
        dated: dict[str, Any] = {"Date": None} if format_name == "svg" else {}
        figure.savefig(content, format=format_name, dpi=DOTS_PER_INCH, metadata=dated)
    write_bytes(path, content.getvalue())
