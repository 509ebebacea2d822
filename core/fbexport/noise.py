"""Noise: how far every layer of an int8 model is from float32, measured in its runtime."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from fbbase.errors import UnknownNameError
from fbexport.formats import load_format
from fbexport.functions import run_float
from fbexport.graph import Array, Graph
from fbexport.quantization.calibration import METHODS, calibrate_by
from fbexport.quantization.fake import FakeQuantized
from fbexport.quantization.quantized import HSIGMOID_ENDS, gated, quantize
from fbexport.quantization.scheme import Ranges
from fbexport.runtimes import load_model, runtime_of
from fbexport.trace import trace

LEAST_NOISE = "least-noise"
"""The way to calibrate that takes the method with the least noise."""
NOISE_IMAGES = 16
"""So many images tell how noisy a method is."""


@dataclass(frozen=True, slots=True)
class LayerNoise:
    """One operator: the module it comes from, and its signal-to-noise ratio in decibels, 10 lg(Σ x² / Σ (x̂ − x)²).

    None where there is no noise, or no signal.
    """

    module: str
    operator: str
    snr_db: float | None


def layer_noise(
    network: nn.Module, images: Tensor, format_name: str, precision: str, ranges: Ranges | None
) -> list[LayerNoise]:
    """Return the noise of every operator in order, over images of N, C, H, W.

    It adds up on the way: every layer gets what the layers before it made. Raises ExportError.
    """
    shape = tuple(images.shape)
    content = load_format(format_name).write(network, shape, precision, ranges, every_value=True)
    results = load_model(content, runtime_of(format_name))(images.numpy())
    graph = trace(network, shape)
    clipped = gated(graph) if precision == "int8" else set()
    noise = []
    exact = [(node, x.numpy()) for node, _, x in run_float(graph, images) if node is not None]
    for (node, x), result in zip(exact, results, strict=True):
        seen = x.clip(-HSIGMOID_ENDS, HSIGMOID_ENDS) if node.output in clipped else x  # by a hard sigmoid
        noise.append(LayerNoise(node.source, type(node).__name__, snr_db(seen, result)))
    return noise


@dataclass(frozen=True, slots=True)
class Calibrated:
    """Ranges, the method that found them, the number of images, and the output's signal-to-noise ratio by each method.

    The ratios are in decibels, of those methods that were compared.
    """

    ranges: Ranges
    method: str
    images: int
    snr_db: dict[str, float | None]

    def __str__(self) -> str:
        """Return in words how the ranges were found, and why so."""
        words = f"calibrated by {self.images} image{'s' * (self.images != 1)}, {self.method}"
        ratios = {name: "no noise" if ratio is None else f"{ratio:.1f} dB" for name, ratio in self.snr_db.items()}
        if not ratios:
            return words
        best = ratios.pop(self.method)
        return f"{words}: signal to noise {best} ({', '.join(f'{name} {ratio}' for name, ratio in ratios.items())})"


def calibrated(graph: Graph, batches: Sequence[Tensor], method: str = LEAST_NOISE) -> Calibrated:
    """Return the ranges of a graph's values by a method, or by that whose int8 output is nearest to float32's.

    The noise is that of the first images, rounded as an int8 model rounds (`FakeQuantized`). Raises as `calibrate`
    does.
    """
    if method != LEAST_NOISE and method not in METHODS:
        raise UnknownNameError("calibration method", method, [*METHODS, LEAST_NOISE])
    images = sum(map(len, batches))
    found = calibrate_by(graph, batches, METHODS if method == LEAST_NOISE else [method])
    if method != LEAST_NOISE:
        return Calibrated(found[method], method, images, {})
    x = next(batch for batch in batches if len(batch))[:NOISE_IMAGES]
    exact = {value: y for _, value, y in run_float(graph, x)}[graph.output].numpy()
    ratios = {}
    with torch.no_grad():
        for name, ranges in found.items():
            ratios[name] = snr_db(exact, FakeQuantized(quantize(graph, ranges), ranges)(x).numpy())
    best = max(ratios, key=lambda name: math.inf if (ratio := ratios[name]) is None else ratio)
    return Calibrated(found[best], best, images, ratios)


def snr_db(signal: Array, result: Array) -> float | None:
    """Return the signal-to-noise ratio of a result that should be the signal, in decibels; None without either."""
    noise = float(np.square(result.astype(np.float64) - signal).sum())
    power = float(np.square(signal.astype(np.float64)).sum())
    return 10 * math.log10(power / noise) if noise and power else None
