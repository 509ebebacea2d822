"""Quantisation: what the scheme rounds and what calibration finds, as properties of random numbers and networks."""

import functools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fbbase.errors import UnknownNameError
from fbexport.errors import ExportError
from fbexport.functions import run_float
from fbexport.quantization.calibration import METHODS, PERCENTILE, calibrate, plausible_ranges
from fbexport.quantization.quantized import quantize
from fbexport.quantization.scheme import BIAS_MAX, SIGMOID, UNIT, Quantization, of_bias, of_range, of_weights
from fbexport.trace import trace

INT8 = np.arange(-128, 128).astype(np.int8)
finite = st.floats(-(2.0**100), 2.0**100, allow_subnormal=False, width=32)


@given(finite, finite)
def test_every_integer_stands_for_a_real_that_becomes_it_again(low, high):
    scheme = of_range(min(low, high), max(low, high))
    np.testing.assert_array_equal(scheme.quantize(scheme.dequantize(INT8)), INT8)


@given(finite, finite, st.floats(0, 1))
def test_a_real_within_the_range_is_off_by_half_a_step_at_most(low, high, share):
    scheme = of_range(min(low, high), max(low, high))
    ends = scheme.dequantize(np.array([-128, 127])).astype(float)
    x = np.array(ends[0] + share * (ends[1] - ends[0]))
    error = np.abs(scheme.scale * (scheme.quantize(x).astype(float) - scheme.zero_point) - x)
    assert error <= scheme.scale / 2 * (1 + 1e-4)


@given(finite, finite)
def test_the_range_is_covered_but_for_half_a_step_and_zero_is_exact(low, high):
    low, high = min(low, high), max(low, high)
    scheme = of_range(low, high)
    ends = scheme.scale * (np.array([-128, 127]) - scheme.zero_point)
    assert scheme.scale > 0
    assert -128 <= scheme.zero_point <= 127
    assert scheme.dequantize(scheme.quantize(np.zeros(1))) == 0
    assert ends[0] <= min(low, 0) + scheme.scale * (0.5 + 1e-4)
    assert ends[1] >= max(high, 0) - scheme.scale * (0.5 + 1e-4)
    if low >= 0 and high > 1e-30:
        assert scheme.zero_point == -128
    if high <= 0 and low < -1e-30:
        assert scheme.zero_point == 127


@given(st.floats(-1e30, 1e30))
def test_what_lies_outside_becomes_the_end(x):
    scheme = Quantization(0.5, 3)
    expected = min(max(x, 0.5 * (-128 - 3)), 0.5 * (127 - 3))
    assert abs(float(scheme.dequantize(scheme.quantize(np.array(x)))) - expected) <= 0.25


@pytest.mark.parametrize("low", [1e-45, 1e-39, 1e-36])
def test_scales_are_no_denormal_numbers(low):
    assert of_range(-low, low).scale >= np.finfo(np.float32).tiny


def test_the_fixed_schemes_are_exact_where_they_must_be():
    np.testing.assert_array_equal(UNIT.dequantize(np.array([-128, 127])), [0, 1])
    np.testing.assert_array_equal(SIGMOID.dequantize(np.array([-128, 0, 127])), [0, 0.5, 255 / 256])


exponents = st.integers(-45, 20)


@given(st.integers(0, 999), exponents, exponents, st.integers(-30, 20), st.booleans())
def test_weights_are_off_by_half_a_step_and_biases_fit(seed, weight_exponent, bias_exponent, input_exponent, single):
    rng = np.random.default_rng(seed)
    weight = (rng.standard_normal((4, 3, 2, 2)) * 10.0**weight_exponent).astype(np.float32)
    weight[rng.integers(4)] *= rng.choice([0, 1])
    bias = (rng.standard_normal(4) * 10.0**bias_exponent).astype(np.float32)
    input_scale = float(np.float32(10.0**input_exponent))
    q, scale = of_weights(weight, bias, input_scale, per_channel=not single)
    assert scale.shape == (1 if single else 4,)
    assert np.abs(q.astype(int)).max() <= 127
    steps = scale.astype(float).reshape(-1, 1, 1, 1)
    assert (np.abs(q * steps - weight) <= steps / 2 * (1 + 1e-5)).all()
    bias_scale = (input_scale * scale.astype(np.float64)).astype(np.float32)
    assert (bias_scale >= np.finfo(np.float32).tiny).all()
    integers = of_bias(bias, bias_scale)
    assert integers.dtype == np.int32
    assert np.abs(integers.astype(np.int64)).max() <= BIAS_MAX * (1 + 1e-6)
    assert (np.abs(integers * bias_scale.astype(float) - bias) <= bias_scale.astype(float) / 2 * (1 + 1e-5)).all()


def test_a_channel_uses_all_of_its_numbers():
    weight = np.array([[0.5, -1.27], [0.02, 0.005], [0, 0]], np.float32)
    q, scale = of_weights(weight, np.zeros(3, np.float32), 0.1)
    np.testing.assert_array_equal(q, [[50, -127], [127, 32], [0, 0]])
    np.testing.assert_allclose(scale, [0.01, 0.02 / 127, 0.01], rtol=1e-6)


def test_a_channel_of_zeros_is_no_wider_than_the_others():
    weight = np.array([[1e-3], [0]], np.float32)
    assert of_weights(weight, np.zeros(2, np.float32), 8.0)[1].max() < 1e-5


@functools.cache
def network():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 3, 1), nn.Hardswish()).eval()
    return trace(module, (1, 2, 5, 5))


def images(seed, count, heavy=False):
    x = torch.randn((count, 2, 5, 5), generator=torch.Generator().manual_seed(seed))
    return x**3 if heavy else x


def values_of(graph, batches):
    """Return all numbers of every value."""
    found: dict[str, list] = {}
    for batch in batches:
        for _, value, x in run_float(graph, batch):
            found.setdefault(value.name, []).append(x.numpy().ravel())
    return {name: np.concatenate(parts).astype(float) for name, parts in found.items()}


def error_of(low, high, x):
    scheme = of_range(low, high)
    q = np.clip(np.rint(x / scheme.scale) + scheme.zero_point, -128, 127)
    return ((scheme.scale * (q - scheme.zero_point) - x) ** 2).mean()


@settings(max_examples=20)
@given(st.integers(0, 99), st.lists(st.integers(0, 3), min_size=1, max_size=3).filter(any), st.booleans())
def test_min_max_is_exact_and_the_others_lie_within(seed, sizes, heavy):
    batches = [images(seed + i, size, heavy) for i, size in enumerate(sizes)]
    ranges = {method: calibrate(network(), batches, method) for method in METHODS}
    for name, x in values_of(network(), [batch for batch in batches if len(batch)]).items():
        low, high = ranges["min-max"][name]
        assert (low, high) == (x.min(), x.max())
        for method in ("percentile", "mse"):
            inner = ranges[method][name]
            assert low <= inner[0] <= inner[1] <= high
        # mse judges by a histogram of 2048 bins, each as if in its middle
        assert error_of(*ranges["mse"][name], x) <= error_of(low, high, x) + ((high - low) / 2048) ** 2


def test_mse_clips_what_is_rare_and_large_and_loses_less():
    x = images(0, 4000)
    x[0, 0, 0, 0] = 60.0
    found = {method: calibrate(network(), [x], method)["input"] for method in METHODS}
    numbers = x.numpy().ravel().astype(float)
    outside = (1 - PERCENTILE / 100) / 2
    width = (60 - numbers.min()) / 2048
    for end, quantile in zip(found["percentile"], np.quantile(numbers, [outside, 1 - outside]), strict=True):
        assert abs(end - quantile) <= 2 * width
    assert found["mse"][1] < 60
    assert error_of(*found["mse"], numbers) < error_of(*found["min-max"], numbers)


def test_the_same_ranges_however_images_come_in_batches():
    x = images(3, 6)
    for method in METHODS:
        together, apart = calibrate(network(), [x], method), calibrate(network(), list(x.split(1)), method)
        for name, found in together.items():
            assert found == pytest.approx(apart[name], abs=1e-6 + (found[1] - found[0]) / 1000)


@pytest.mark.parametrize("batches", [[], [torch.zeros(0, 2, 5, 5)]])
def test_no_images(batches):
    with pytest.raises(ExportError, match="no images to calibrate by"):
        calibrate(network(), batches)


@pytest.mark.parametrize("shape", [(1, 3, 5, 5), (1, 2, 4, 5), (2, 5, 5)])
def test_images_of_another_shape(shape):
    with pytest.raises(ExportError, match=r"takes images of shape N, 2, 5, 5, not"):
        calibrate(network(), [torch.zeros(shape)])


def test_another_method():
    with pytest.raises(UnknownNameError, match="calibration method 'median'"):
        calibrate(network(), [images(0, 1)], "median")


class Inner(nn.Module):
    def __init__(self, weight):
        super().__init__()
        self.first, self.second = nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 1)
        nn.init.constant_(self.second.weight, weight)

    def forward(self, x):
        return self.second(self.first(x))


@pytest.mark.parametrize("weight", [float("nan"), float("inf"), 3e38])
def test_a_layer_that_gives_no_finite_numbers_is_named(weight):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(2, 2, 1), Inner(weight)).eval()
    with pytest.raises(ExportError, match=r"Conv of module '1\.second': values from .*finite range"):
        calibrate(trace(module, (1, 2, 5, 5)), [100 * images(0, 1)])


@pytest.mark.parametrize("pixel", [float("nan"), float("inf"), -float("inf")])
def test_images_that_are_not_finite(pixel):
    x = images(0, 1)
    x[0, 1, 2, 3] = pixel
    with pytest.raises(ExportError, match="the images to calibrate by: values from"):
        calibrate(network(), [x])


def test_ranges_of_another_network():
    with pytest.raises(ExportError, match="not this network's"):
        quantize(network(), {"input": (0.0, 1.0)})


def test_ranges_for_timing_are_those_of_normal_numbers():
    low, high = plausible_ranges(network())["input"]
    assert -5 < low < -1
    assert 1 < high < 5
