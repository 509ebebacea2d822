"""Every operator of tests/operators.py in the formats that write it: what it computes equals torch's."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from fbexport.errors import ExportError
from fbexport.formats import FORMATS, load_format
from fbexport.functions import run_float
from fbexport.quantization.calibration import calibrate
from fbexport.runtimes import fallbacks, load_model, runtime_of
from fbexport.trace import trace
from operators import SAMPLES, SHAPE, Computed, attention
from peers.installed import FORMATS_HERE

PAGE = Path(__file__).parents[2] / "docs/extend/operators.md"
NEAR = tuple(name for name in ("ncnn", "onnx", "pte", "tflite") if name in FORMATS_HERE)
FULL = (*NEAR, "torchscript")
NOT_IN = {
    ("transposed convolution, dilation", "tflite"),
    ("max pooling, dilation", "ncnn"),
    ("broadcast over axes", "ncnn"),
}
CASES = [  # each in one of the formats, in turn
    pytest.param(
        each,
        name,
        marks=() if at % 4 == place else pytest.mark.full,
        id=f"{each.operator}-{name}",
    )
    for at, each in enumerate(SAMPLES)
    for place, name in enumerate(FULL)
    if (each.operator, name) not in NOT_IN
]


def made(sample):
    torch.manual_seed(0)
    return sample.make().eval()


def image():
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(1))


def error_of(module, format_name, precision="float32"):
    """Return the largest deviation from torch's output, relative to the largest output."""
    x = image()
    with torch.no_grad():
        expected = module(x).numpy()
    ranges = calibrate(trace(module, SHAPE), [x]) if precision == "int8" else None
    content = load_format(format_name).write(module, SHAPE, precision, ranges)
    (result,) = load_model(content, runtime_of(format_name))(x.numpy())
    assert result.shape == expected.shape
    return np.abs(result - expected).max() / np.abs(expected).max()


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning")
@pytest.mark.parametrize(("sample", "name"), CASES)
def test_an_operator_equals_torch(sample, name):
    assert error_of(made(sample), name) <= 1e-4


@pytest.mark.parametrize("name", NEAR)
@pytest.mark.parametrize(
    "module",
    [
        lambda: nn.Sequential(nn.Conv2d(8, 8, 3), nn.SiLU(), nn.MaxPool2d(2)),
        lambda: Computed(lambda m, x: torch.cat([m.conv(x), x[:, 2:5].sigmoid()], 1).permute(0, 2, 3, 1).flatten(2)),
    ],
)
def test_int8_is_near(module, name):
    torch.manual_seed(0)
    assert error_of(module().eval(), name, "int8") <= 0.06


def test_a_convnext_block_needs_no_transposition_in_tflite():
    from ai_edge_litert import schema_py_generated as schema

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.filter, self.norm = nn.Conv2d(8, 8, 7, padding=3, groups=8), nn.LayerNorm(8)
            self.widen, self.act, self.narrow = nn.Linear(8, 32), nn.GELU(), nn.Linear(32, 8)
            self.gamma = nn.Parameter(torch.full((8,), 0.1))

        def forward(self, x):
            y = self.norm(self.filter(x).permute(0, 2, 3, 1))
            return x + (self.narrow(self.act(self.widen(y))) * self.gamma).permute(0, 3, 1, 2)

    content = load_format("tflite").write(Block().eval(), SHAPE)
    codes = [code.builtinCode for code in schema.ModelT.InitFromPackedBuf(content, 0).operatorCodes]
    assert schema.BuiltinOperator.TRANSPOSE not in codes
    assert schema.BuiltinOperator.RESHAPE not in codes
    assert fallbacks(content, "litert", "float32") == []
    assert error_of(Block().eval(), "tflite") <= 1e-4


def test_pooling_behind_relu_is_delegated_in_tflite():
    module = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2, 1)).eval()
    assert fallbacks(load_format("tflite").write(module, SHAPE), "litert", "float32") == []
    assert error_of(module, "tflite") <= 1e-4


STEPS = {
    "cat": lambda m, x: torch.cat([x, x * 0.5], 1)[:, ::2],
    "conv": lambda m, x: m.conv(x),
    "gelu": lambda m, x: F.gelu(x),
    "last": lambda m, x: F.layer_norm(x.permute(0, 2, 3, 1), (8,)).permute(0, 3, 1, 2),
    "gate": lambda m, x: x * x.mean((2, 3), keepdim=True).sigmoid(),
    "scale": lambda m, x: x * m.scale + 0.1,
    "pool": lambda m, x: F.max_pool2d(x, 3, 1, 1),
    "tokens": lambda m, x: m.linear(x.flatten(2).mT)[..., 8:16].mT.reshape(x.shape),
    "softmax": lambda m, x: F.softmax(x, 1) + x.mean(1, keepdim=True),
    "turn": lambda m, x: x.transpose(2, 3),
    "attend": lambda m, x: F.softmax(x @ x.mT, -1) @ x,
    "shuffle": lambda m, x: F.pixel_unshuffle(F.pixel_shuffle(x, 2), 2),
    "pad": lambda m, x: F.pad(x, (1, 0, 0, 1))[:, :, 1:, :-1],
    "groups": lambda m, x: F.group_norm(x, 2),
    "chunks": lambda m, x: torch.cat(x.chunk(2, 1)[::-1], 1),
}


@pytest.mark.parametrize("name", ["ncnn", "onnx", "tflite"])
@settings(max_examples=12)
@given(names=st.lists(st.sampled_from(sorted(STEPS)), min_size=2, max_size=6))
def test_random_chains_equal_torch_whatever_layout_they_leave(name, names):
    def chain(module, x):
        for step in names:
            x = STEPS[step](module, x)
        return x

    torch.manual_seed(0)
    module = Computed(chain).eval()
    for name in NEAR:
        assert error_of(module, name) <= 1e-4


@pytest.mark.skipif("pte" not in FORMATS_HERE, reason="needs the runtime executorch")
@pytest.mark.parametrize(
    "module",
    [
        lambda: nn.Sequential(nn.Conv2d(8, 8, 3), nn.GELU("tanh"), nn.AvgPool2d(3, 2, 1, count_include_pad=False)),
        lambda: nn.Sequential(nn.AvgPool2d(2), nn.Upsample(scale_factor=2), nn.LeakyReLU(0.2), nn.ZeroPad2d(1)),
        lambda: nn.Sequential(nn.Upsample((11, 9), mode="bilinear"), nn.PReLU(8), nn.Hardtanh(-0.5, 1.5), nn.ELU()),
        lambda: Computed(lambda m, x: x[:, ::2, 1::2].sum((1, 2)) - x.mean((1, 3)).tanh()[:, 1:2]),
        lambda: Computed(lambda m, x: (x / (x.abs() + 2)).amax((2, 3), True) + x.flatten(2).mT.reshape(x.shape)),
    ],
)
def test_int8_is_near_in_pte(module):
    torch.manual_seed(0)
    assert error_of(module().eval(), "pte", "int8") <= 0.04


UNUSUAL = {
    "stride above the window's": nn.MaxPool2d(2, 3),
    "single pixels": nn.AvgPool2d(1, 2),
    "one row": nn.MaxPool2d((1, 3), (1, 2), (0, 1)),
    "dilated, padded": nn.MaxPool2d(2, 2, 1, dilation=3),
    "ceil, padded": nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False),
    "nearest, fewer pixels": nn.Upsample(scale_factor=0.5),
    "bilinear, fewer pixels": nn.Upsample((3, 2), mode="bilinear"),
    "every third": Computed(lambda m, x: x[:, 1::3, ::3, 5:6]),
    "many joined": Computed(lambda m, x: torch.cat([x[:, at % 8 :: 8] for at in range(26)], 1)),
    "broadcast matrices": Computed(lambda m, x: x @ x[:1, :1].mT + x[:1, :1] @ x),
    "input among the outputs": Computed(lambda m, x: x.permute(0, 2, 3, 1)),
}


@pytest.mark.skipif("pte" not in FORMATS_HERE, reason="needs the runtime executorch")
@pytest.mark.parametrize("name", UNUSUAL)
def test_what_xnnpack_has_not_by_itself_equals_torch_in_pte(name):
    assert error_of(UNUSUAL[name].eval(), "pte") <= 1e-5


@pytest.mark.skipif("pte" not in FORMATS_HERE, reason="needs the runtime executorch")
def test_every_value_can_be_an_output_of_a_pte_file_however_it_lies():
    torch.manual_seed(0)
    module, x = Computed(lambda m, x: attention(m, x.permute(0, 1, 3, 2)).mT.reshape(x.shape)).eval(), image()
    expected = [value for node, _, value in run_float(trace(module, SHAPE), x) if node is not None]
    results = load_model(load_format("pte").write(module, SHAPE, every_value=True), "executorch")(x.numpy())
    for result, value in zip(results, expected, strict=True):
        np.testing.assert_allclose(result, value.detach().numpy(), rtol=0, atol=1e-5)


def test_what_xnnpack_cannot_is_refused_by_name_in_pte():
    told = r"format 'pte' cannot write operator %s of the network itself in %s"
    with pytest.raises(ExportError, match=told % ("Resize nearest", "float32")):
        load_format("pte").write(nn.Upsample(scale_factor=1.5).eval(), SHAPE)
    with pytest.raises(ExportError, match=told % ("Reshape", "float32")):
        load_format("pte").write(Computed(lambda m, x: x.reshape(1, 2, 2, 4, 3, 2, 6).movedim(1, -1)).eval(), SHAPE)
    with pytest.raises(ExportError, match=told % ("Softmax", "int8") + "; its files in float32 can"):
        load_format("pte").write(nn.Softmax(1).eval(), SHAPE, "int8")


def test_a_format_that_does_not_write_an_operator_names_those_that_do():
    module = nn.Sequential(nn.Conv2d(8, 8, 1), nn.Sequential(nn.MaxPool2d(2, dilation=2))).eval()
    with pytest.raises(ExportError) as raised:
        load_format("ncnn").write(module, SHAPE)
    assert "format 'ncnn' cannot write operator Pool max of module '1.0' in float32" in str(raised.value)
    assert "formats that can: onnx, pte, tflite, torchscript" in str(raised.value)


def test_an_operator_without_integer_kernels_is_refused_in_int8_only():
    with pytest.raises(ExportError, match=r"operator Norm of the network itself in int8; its files in float32 can"):
        load_format("tflite").write(nn.GroupNorm(2, 8).eval(), SHAPE, "int8")


def table():
    """Return the page's table: for each operator the formats that are marked."""
    rows = [line.strip("| \n").split(" | ") for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    names = rows[0][1:]
    return {
        row[0]: {name for name, mark in zip(names, row[1:], strict=True) if mark.strip() == "✓"} for row in rows[1:]
    }


@pytest.mark.full
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning")
def test_the_table_of_operators_is_what_the_formats_do():
    def writes(name, module):
        try:
            return bool(load_format(name).write(module, SHAPE))
        except ExportError:
            return False

    for sample in SAMPLES:
        able = {name for name in FORMATS.names() if writes(name, made(sample))}
        assert table()[sample.operator] == able, sample.operator


def test_the_table_has_every_operator():
    assert list(table()) == [sample.operator for sample in SAMPLES]
    assert re.search(r"core/fbexport/translate/", PAGE.read_text())


@pytest.mark.parametrize("name", [each for each in NEAR if each != "pte"])
@pytest.mark.parametrize(
    "module",
    [
        lambda: Computed(lambda m, x: F.pad(x, (1, 2, -1, 3), value=0.5)),
        lambda: nn.Sequential(nn.ZeroPad2d(2), nn.MaxPool2d(3, 2)),
        lambda: nn.Sequential(nn.ZeroPad2d((0, 2, 2, 3)), nn.MaxPool2d(1, (1, 2))),
        lambda: nn.Upsample((5, 4)),
        lambda: nn.Upsample((1, 9), mode="bilinear"),
    ],
)
def test_what_runtimes_do_otherwise_by_themselves_equals_torch(module, name):
    assert error_of(module().eval(), name) <= 1e-4


@pytest.mark.parametrize("name", NEAR)
@pytest.mark.parametrize(
    "function", [lambda m, x: x * 1e-7 + torch.zeros(1), lambda m, x: x[:, :, ::2].relu()[..., 1:]]
)
def test_int8_takes_sums_with_zeros_and_operators_that_only_move_numbers(function, name):
    assert error_of(Computed(function).eval(), name, "int8") <= 0.01


def test_int8_prelu_loads_in_tflite():
    assert error_of(nn.PReLU(8).eval(), "tflite", "int8") <= 0.02
