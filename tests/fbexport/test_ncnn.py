"""ncnn: what its files hold, its int8, and what is said where it is not installed."""

import json
import re
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from fbexport.errors import ExportError
from fbexport.export import export_module, export_spec
from fbexport.formats import load_format
from fbexport.functions import run_float
from fbexport.quantization.calibration import calibrate
from fbexport.runtimes import fallbacks, load_model
from fbexport.trace import trace
from fbspace.blocks import build_block
from fbspace.opspec import OpSpec
from fbspace.weights import randomize
from peers.installed import need

RELU = OpSpec("ir", 24, 24, 9, 9, kernel=5, expansion=3)
HSWISH = replace(RELU, activation="hswish", squeeze_excite=True)
GROUPED = replace(RELU, groups=3)
LEAST_DB = 25.0
"""Least ratio of signal to noise of a block in int8; 28 occur."""


def assert_near(y, expected, part):
    """Assert that outputs are off by no more than a part of the largest."""
    assert y.shape == expected.shape
    assert abs(y - expected).max() <= part * abs(expected).max()


@pytest.fixture
def ncnn():
    need("ncnn")
    return pytest.importorskip("ncnn")


def test_the_file_is_the_bin_file_then_the_param_file_then_a_line(tmp_path, ncnn):
    content = export_spec(RELU, "ncnn")
    parts = load_format("ncnn").parts(content)
    assert content == parts[".bin"] + parts[".param"] + content[len(parts[".bin"]) + len(parts[".param"]) :]
    settings = json.loads(content[len(parts[".bin"]) + len(parts[".param"]) : -8])
    assert settings["outputs"] == {"output": [1, 24, 9, 9]}
    assert settings["options"] == {
        "use_fp16_packed": False, "use_fp16_storage": False, "use_fp16_arithmetic": False, "use_packing_layout": True,
        "use_winograd_convolution": True, "lightmode": True,
    }  # fmt: skip
    net = ncnn.Net()
    for name, part in (("net.param", parts[".param"]), ("net.bin", parts[".bin"])):
        (tmp_path / name).write_bytes(part)
    assert net.load_param(str(tmp_path / "net.param")) == 0
    assert net.load_model(str(tmp_path / "net.bin")) == 0
    assert (net.input_names(), net.output_names()) == (["input"], ["output"])
    x = torch.randn(RELU.input_shape)
    extractor = net.create_extractor()
    extractor.input("input", ncnn.Mat(x[0].numpy()).clone())
    with torch.no_grad():
        expected = randomize(build_block(RELU), 0)(x)[0].numpy()
    assert_near(np.array(extractor.extract("output")[1]), expected, 1e-4)


def test_float16_models_take_half_the_bytes_and_are_run_in_ncnns_own_way():
    whole, half = (export_spec(RELU, "ncnn", precision) for precision in ("float32", "float16"))
    assert len(half) < 0.6 * len(whole)
    assert json.loads(half[half.rindex(b"\n{") : -8])["options"]["use_fp16_arithmetic"] is True


def test_hswish_is_applied_by_the_convolution_before_it():
    kinds = re.findall(rb"^[A-Z]\w+", export_spec(HSWISH, "ncnn"), re.MULTILINE)
    assert b"HardSwish" not in kinds
    module = nn.Sequential(nn.Hardswish(), nn.Conv2d(4, 4, 1), nn.Sigmoid(), nn.Hardswish())
    lines = load_format("ncnn").parts(export_module(module, (1, 4, 5, 5), "ncnn"))[".param"].decode().splitlines()
    assert [line.split()[0] for line in lines[2:]] == ["Input", "HardSwish", "Convolution", "HardSwish"]


@pytest.mark.parametrize("spec", [RELU, HSWISH, GROUPED, OpSpec("classifier", 8, 10, 5, 4, activation="none")])
@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_every_value_is_an_output_in_order(ncnn, spec, precision):
    module = randomize(build_block(spec), 0)
    graph, x = trace(module, spec.input_shape), torch.randn(spec.input_shape)
    content = load_format("ncnn").write(module, spec.input_shape, precision, calibrate(graph, [x]), every_value=True)
    expected = [value.numpy() for node, _, value in run_float(graph, x) if node is not None]
    for y, real in zip(load_model(content, "ncnn")(x.numpy()), expected, strict=True):
        assert_near(y, real, 1e-4 if precision == "float32" else 0.15)


@pytest.mark.parametrize("shape", [(1, 6, 5, 7), (1, 12, 4, 4)])
def test_int8_is_what_integers_give(ncnn, shape):
    """A 1×1 convolution, written out: 127 stands for the largest input, and for the largest weight of each output."""
    module = randomize(nn.Conv2d(shape[1], 8, 1), 0).eval()
    x = torch.rand(shape) * 2 - 1
    x.view(-1)[0] = 1.0
    content = load_format("ncnn").write(module, shape, "int8", calibrate(trace(module, shape), [x]))
    weight = module.weight.detach().double().numpy()[:, :, 0, 0]
    scales = 127 / abs(weight).max(axis=1, keepdims=True)
    largest = 128 / 127.5  # of the scheme's 255 steps from -1 to 1, as its zero point leaves them
    integers, weights = np.rint(x[0].double().numpy() * 127 / largest), np.rint(weight * scales)
    bias = module.bias.detach().double().numpy()
    expected = np.einsum("oi,ihw->ohw", weights / scales, integers * largest / 127) + bias[:, None, None]
    assert_near(load_model(content, "ncnn")(x.numpy())[0][0], expected, 0.01)


@pytest.mark.parametrize("spec", [RELU, HSWISH, GROUPED, replace(RELU, stride=2, out_channels=32)])
def test_int8_is_near_float32(ncnn, spec):
    module, x = randomize(build_block(spec), 0), torch.randn(spec.input_shape)
    ranges = calibrate(trace(module, spec.input_shape), [x])
    y = load_model(load_format("ncnn").write(module, spec.input_shape, "int8", ranges), "ncnn")(x.numpy())[0]
    with torch.no_grad():
        real = module(x).numpy()
    assert 10 * np.log10((real**2).sum() / ((y - real) ** 2).sum()) > LEAST_DB


def test_what_int8_models_compute_in_float_is_told():
    """Among it convolutions in groups of eight outputs, which ncnn computes wrong in int8 on x86."""
    told = fallbacks(export_spec(HSWISH, "ncnn", "int8"), "ncnn", "int8")
    assert told == ["Pooling in float", "HardSigmoid in float", "BinaryOp in float"]
    told = fallbacks(export_spec(GROUPED, "ncnn", "int8"), "ncnn", "int8")
    assert told == ["ConvolutionDepthWise in float", "BinaryOp in float"]
    assert fallbacks(export_spec(HSWISH, "ncnn"), "ncnn", "float32") == []


def test_weights_beyond_float16_are_refused():
    module = nn.Sequential(nn.Conv2d(2, 2, 1))
    module[0].weight.data.fill_(1e5)
    with pytest.raises(ExportError, match="module '0' has weights beyond float16"):
        load_format("ncnn").write(module.eval(), (1, 2, 3, 3), "float16")


@given(cut=st.integers(1, 3000), at_end=st.booleans())
def test_half_a_file_is_refused(cut, at_end):
    need("ncnn")
    content = export_spec(OpSpec("conv", 3, 8, 9, 9, kernel=3), "ncnn")
    half = content[: -min(cut, len(content))] if at_end else content[-min(cut, 7) :]
    with pytest.raises(ExportError, match="runtime ncnn refuses the model: "):
        load_model(half, "ncnn")


def test_a_package_that_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "ncnn", None)
    with pytest.raises(ExportError, match=r"runtime ncnn is not installed here: pip install 'fbnet-lab\[ncnn\]'"):
        load_model(export_spec(RELU, "ncnn"), "ncnn")


def kinds_of(module, shape=(1, 8, 6, 6)):
    """Return the kinds of a module's layers, but the first, which is the input."""
    lines = load_format("ncnn").parts(export_module(module.eval(), shape, "ncnn"))[".param"].decode().splitlines()
    return [line.split()[0] for line in lines[3:]]


def test_operators_become_the_layers_that_ncnn_has_for_them():
    """Reshapes only where a layer reads a value's own sides: the groups of a normalisation are no axis in ncnn."""
    assert kinds_of(nn.GroupNorm(4, 8)) == ["GroupNorm"]
    assert kinds_of(nn.InstanceNorm2d(8, affine=True)) == ["GroupNorm"]
    assert kinds_of(nn.LayerNorm(6)) == ["LayerNorm"]
    assert kinds_of(nn.PixelShuffle(2)) == ["PixelShuffle"]
    assert kinds_of(nn.Sequential(nn.Conv2d(8, 8, 1), nn.SiLU())) == ["Convolution", "Swish"]
    gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 4, 1), nn.SiLU(), nn.Conv2d(4, 8, 1))
    assert kinds_of(gate) == ["Pooling", "InnerProduct", "Swish", "InnerProduct"]
    flat = nn.Sequential(nn.Flatten(2), nn.Conv1d(8, 8, 3), nn.Conv1d(8, 8, 3), nn.ReLU())
    assert kinds_of(flat) == ["Reshape", "Convolution", "Convolution", "ReLU", "Reshape"]


class Function(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def test_blobs_that_are_read_twice_have_names_of_their_own(ncnn):
    """torch.fx calls the second concatenation cat_1, as ncnn's tools would the first one's second reader."""

    def twice(x):
        first = torch.cat([x, x], 1)
        return torch.cat([first, first.sigmoid()], 2) + torch.cat([first.tanh(), first], 2)

    x = torch.randn(1, 2, 3, 3)
    (y,) = load_model(export_module(Function(twice).eval(), (1, 2, 3, 3), "ncnn"), "ncnn")(x.numpy())
    assert_near(y, twice(x).numpy(), 1e-4)


@pytest.mark.parametrize(
    "mixed", [lambda x: x.mean((0, 2, 3))[:, None, None] + x, lambda x: x.flatten(0, 1), lambda x: x.softmax(0)]
)
def test_what_mixes_images_is_refused(mixed):
    with pytest.raises(ExportError, match=r"format 'ncnn' cannot write operator \w+.* formats that can: onnx, "):
        load_format("ncnn").write(Function(mixed).eval(), (2, 3, 4, 4))


def test_a_single_image_may_be_without_an_axis(ncnn):
    """As LeViT does, which normalises all tokens as one batch."""

    def run(x):
        tokens = F.batch_norm(x.flatten(2).mT.flatten(0, 1), torch.zeros(4), torch.ones(4))
        return tokens.reshape(1, 9, 4).mT.reshape(x.shape).relu()

    x = torch.randn(1, 4, 3, 3)
    (y,) = load_model(export_module(Function(run).eval(), (1, 4, 3, 3), "ncnn"), "ncnn")(x.numpy())
    assert_near(y, run(x).numpy(), 1e-4)


def test_new_kinds_stay_in_float_in_int8_models(ncnn):
    module = nn.Sequential(nn.Conv2d(8, 8, 3), nn.SiLU(), nn.GroupNorm(2, 8), nn.ConvTranspose2d(8, 8, 2, 2))
    told = fallbacks(export_module(module.eval(), (1, 8, 6, 6), "ncnn", "int8"), "ncnn", "int8")
    assert told == ["Swish in float", "GroupNorm in float", "Deconvolution in float"]


def test_a_single_pixel_is_resized_but_a_row_is_refused(ncnn):
    def wide(x):
        return F.interpolate(x, (3, 4), mode="bilinear")

    x = torch.randn(1, 4, 1, 1)
    (y,) = load_model(export_module(Function(wide).eval(), (1, 4, 1, 1), "ncnn"), "ncnn")(x.numpy())
    assert_near(y, wide(x).numpy(), 1e-4)
    with pytest.raises(ExportError, match="operator Resize bilinear of the network itself in float32"):
        export_module(Function(wide).eval(), (1, 4, 1, 5), "ncnn")
