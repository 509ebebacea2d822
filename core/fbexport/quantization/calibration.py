"""Calibration: the range of every value of a graph, from images that run through it in float32."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fbbase.errors import UnknownNameError
from fbexport.errors import ExportError, module_name
from fbexport.functions import run_float
from fbexport.graph import Graph
from fbexport.quantization.scheme import Range, Ranges, of_range

BINS = 2048
PERCENTILE = 99.99
"""So many percent of the numbers lie within the range that `percentile` gives."""
SHARES = np.linspace(0.2, 1.0, 81)
"""Shares of the full range that `mse` tries."""

Counts = NDArray[np.float64]
Choose = Callable[[float, float, Counts], Range]


def calibrate(graph: Graph, batches: Sequence[Tensor], method: str = "min-max") -> Ranges:
    """Return the range of every value over batches of N, C, H, W.

    `min-max` takes all that occurred, `percentile` all but the rarest, and `mse` what loses least when it is rounded
    and clipped, by the mean squared error. Raises UnknownNameError for another method, ExportError where there are no
    images, where they have another shape than the network's, and where a layer gives infinities or NaN.
    """
    if method not in METHODS:
        raise UnknownNameError("calibration method", method, list(METHODS))
    return calibrate_by(graph, batches, [method])[method]


def calibrate_by(graph: Graph, batches: Sequence[Tensor], methods: Iterable[str]) -> dict[str, Ranges]:
    """Return the ranges by each of several methods, for which images run once. Raises as `calibrate` does."""
    batches = [batch for batch in batches if len(batch)]
    if not batches:
        raise ExportError("there are no images to calibrate by: int8 needs some, a hundred do")
    ranges: dict[str, Range] = {}
    for batch in batches:
        for node, value, x in run_float(graph, batch):
            low, high = x.min().item(), x.max().item()
            if not (math.isfinite(low) and math.isfinite(high)):
                where = f"{type(node).__name__} of {module_name(node.source)}" if node else "the images to calibrate by"
                raise ExportError(f"{where}: values from {low} to {high}; int8 needs a finite range")
            before = ranges.get(value.name, (low, high))
            ranges[value.name] = min(low, before[0]), max(high, before[1])
    ways = {method: METHODS[method] for method in methods}
    counts = {name: np.zeros(BINS) for name in ranges}
    for batch in batches if any(ways.values()) else []:
        for _, value, x in run_float(graph, batch):
            low, high = ranges[value.name]
            if low < high:
                counts[value.name] += torch.histc(x, BINS, low, high).double().numpy()

    def chosen(choose: Choose | None, name: str) -> Range:
        low, high = ranges[name]
        return choose(low, high, counts[name]) if choose and low < high else (low, high)

    return {method: {name: chosen(choose, name) for name in ranges} for method, choose in ways.items()}


def plausible_ranges(graph: Graph) -> Ranges:
    """Return the ranges of normal random numbers, for a network that is only timed."""
    x = torch.randn(graph.input.shape, generator=torch.Generator().manual_seed(0))
    return calibrate(graph, [x])


def _percentile(low: float, high: float, counts: Counts) -> Range:
    edges = np.linspace(low, high, BINS + 1)
    share = np.concatenate([[0.0], np.cumsum(counts)]) / counts.sum()
    outside = (1 - PERCENTILE / 100) / 2
    first, last = np.searchsorted(share, [outside, 1 - outside])
    return float(edges[max(first - 1, 0)]), float(edges[min(last, BINS)])


def _least_squares(low: float, high: float, counts: Counts) -> Range:
    edges = np.linspace(low, high, BINS + 1)
    middle = (edges[1:] + edges[:-1]) / 2
    best, least = (low, high), math.inf
    for share in SHARES:
        scheme = of_range(share * low, share * high)
        rounded = scheme.dequantize(scheme.quantize(middle))
        error = float(counts @ (rounded - middle) ** 2)
        if error <= least:
            best, least = (float(share * low), float(share * high)), error
    return best


METHODS: Mapping[str, Choose | None] = {
    "min-max": None,
    "percentile": _percentile,
    "mse": _least_squares,
}
"""Ways to choose a range from the extremes and a histogram between them."""
