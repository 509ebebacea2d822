"""Noise: how far every layer of an int8 model is from float32, measured in its runtime."""

import math
from dataclasses import dataclass

import numpy as np
from torch import Tensor, nn

from fbexport.formats import load_format
from fbexport.functions import run_float
from fbexport.graph import Array
from fbexport.quantization.calibration import Ranges
from fbexport.quantization.quantized import HSIGMOID_ENDS, gated
from fbexport.runtimes import load_model, runtime_of
from fbexport.trace import trace


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
    content = load_format(format_name).write(network, shape, precision, ranges, every_value=True)  # type: ignore[arg-type]
    results = load_model(content, runtime_of(format_name))(images.numpy())
    graph = trace(network, shape)  # type: ignore[arg-type]
    clipped = gated(graph) if precision == "int8" else set()
    noise = []
    exact = [(node, x.numpy()) for node, _, x in run_float(graph, images) if node is not None]
    for (node, x), result in zip(exact, results, strict=True):
        seen = x.clip(-HSIGMOID_ENDS, HSIGMOID_ENDS) if node.output in clipped else x  # by a hard sigmoid
        noise.append(LayerNoise(node.source, type(node).__name__, snr_db(seen, result)))
    return noise


def snr_db(signal: Array, result: Array) -> float | None:
    """Return the signal-to-noise ratio of a result that should be the signal, in decibels; None without either."""
    noise = float(np.square(result.astype(np.float64) - signal).sum())
    power = float(np.square(signal.astype(np.float64)).sum())
    return 10 * math.log10(power / noise) if noise and power else None
