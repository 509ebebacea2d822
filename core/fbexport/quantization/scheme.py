"""Scheme: what int8 numbers stand for, real = scale · (q − zero point) (Jacob et al., CVPR'18, equation 1).

As TFLite's quantisation specification asks: activations are asymmetric with one scale, weights symmetric within ±127
with a scale for each output channel, biases int32 with the product of the input's scale and the weight's.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Int8 = NDArray[np.int8]
Int32 = NDArray[np.int32]
Float32 = NDArray[np.float32]

Range = tuple[float, float]
Ranges = Mapping[str, Range]
"""Least and greatest of every value by its name."""

QMIN, QMAX = -128, 127
UNSIGNED = 128
"""By so much the uint8 number for a real, which ONNX files have, is more than its int8 number."""
WEIGHT_MAX = 127
BIAS_MAX = 1 << 30
"""A bias stays below half of int32, so that adding products to it does not overflow."""
LEAST_SCALE = float(np.finfo(np.float32).tiny)
"""Runtimes take no denormal number for a scale."""
SCALE_RATIO = 250
"""No sum is taken by XNNPACK whose input's scale is 256 times its output's; LiteRT aborts where it is 2^19 times."""


@dataclass(frozen=True, slots=True)
class Quantization:
    """Scale and zero point of a tensor with one scale."""

    scale: float
    zero_point: int

    def quantize(self, x: NDArray[Any]) -> Int8:
        """Return the nearest int8 numbers; what lies outside the range becomes its end."""
        q = np.rint(np.asarray(x, np.float64) / self.scale) + self.zero_point
        clipped: Int8 = np.clip(q, QMIN, QMAX).astype(np.int8)
        return clipped

    def dequantize(self, q: NDArray[Any]) -> Float32:
        """Return the real numbers."""
        return (self.scale * (q.astype(np.float64) - self.zero_point)).astype(np.float32)


UNIT = Quantization(1 / 255, -128)
"""From 0 to 1, both exact."""
SIGMOID = Quantization(1 / 256, -128)
"""What the specification asks of LOGISTIC's and SOFTMAX's output."""
TANH = Quantization(1 / 128, 0)
"""What it asks of TANH's."""


def of_array(array: NDArray[Any]) -> Quantization:
    """Return what the int8 numbers of a constant stand for: what lies between its least and its largest number."""
    return of_range(float(array.min()), float(array.max()))


def of_range(low: float, high: float) -> Quantization:
    """Return the quantisation of a range, widened to hold 0, which must be exact: padding is made of it."""
    low, high = min(low, 0.0), max(high, 0.0)
    if high == low:
        return Quantization(1.0, 0)
    scale = float(np.float32(max((high - low) / (QMAX - QMIN), LEAST_SCALE)))
    return Quantization(scale, int(np.clip(round(QMIN - low / scale), QMIN, QMAX)))


def of_weights(weight: Float32, bias: Float32, input_scale: float, per_channel: bool = True) -> tuple[Int8, Float32]:
    """Return int8 weights and their scales, one for each output channel (the first axis) or one for all.

    A channel of tiny weights gets a larger scale than it needs where its bias would not fit into an int32 otherwise.
    One of zeros gets the largest of the others: XNNPACK loads no model where the input's scale times the weights' is
    256 times the output's.
    """
    axes = tuple(range(1, weight.ndim)) if per_channel else tuple(range(weight.ndim))
    largest = np.abs(weight).max(axis=axes, keepdims=True).astype(np.float64)
    need = np.abs(bias).astype(np.float64) / (input_scale * BIAS_MAX)
    need = need.reshape(-1, *[1] * (weight.ndim - 1)) if per_channel else need.max()
    scale = np.maximum(largest / WEIGHT_MAX, need)
    scale = np.where(scale == 0, scale.max() or 1 / input_scale, scale)
    scale = np.maximum(scale, LEAST_SCALE / min(input_scale, 1.0)).astype(np.float32)  # the bias's scale is normal too
    q = np.clip(np.rint(weight / scale), -WEIGHT_MAX, WEIGHT_MAX).astype(np.int8)
    return q, scale.reshape(-1)


def of_bias(bias: Float32, scale: Float32) -> Int32:
    """Return an int32 bias of these scales, the input's times the weights'."""
    return np.rint(bias / scale.astype(np.float64)).astype(np.int32)
