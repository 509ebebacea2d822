"""Plot: predicted against measured latencies of networks, as PNG or SVG; the same figures give the same SVG."""

import io
from collections.abc import Sequence
from pathlib import Path

from fbbase.errors import FbError
from fbbase.files import write_bytes
from fbprof.accuracy import Result

SUFFIXES = (".png", ".svg")
BAND_PERCENT = 5.0
SIZE_INCHES = 5.5
DOTS_PER_INCH = 150


def check_plot_path(path: Path) -> None:
    """Raise FbError for a file that is neither PNG nor SVG by its name."""
    if path.suffix.lower() not in SUFFIXES:
        raise FbError(f"a plot is a {' or '.join(SUFFIXES)} file, not {path.name!r}: choose one of these endings")


def plot_results(results: Sequence[Result], title: str, path: Path) -> None:
    """Draw measured latencies to the right and predicted ones upwards, in milliseconds, with a band of ±5 %.

    Raises FbError for another ending than .png and .svg, StorageError.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    check_plot_path(path)
    format_name = path.suffix.lower().removeprefix(".")
    with rc_context({"svg.hashsalt": "fbprof", "font.size": 9}):
        figure = Figure(figsize=(SIZE_INCHES, SIZE_INCHES), layout="constrained")
        axes = figure.add_subplot()
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
        axes.set(
            xlim=ends,
            ylim=ends,
            aspect="equal",
            title=title,
            xlabel="measured latency (ms)",
            ylabel="predicted latency (ms)",
        )
        axes.legend(loc="upper left", frameon=False)
        content = io.BytesIO()
        dated = {"Date": None} if format_name == "svg" else {}
        figure.savefig(content, format=format_name, dpi=DOTS_PER_INCH, metadata=dated)
    write_bytes(path, content.getvalue())
