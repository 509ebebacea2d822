"""What the tracer makes of a module: which operators remain, their shapes, and what it refuses."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fbexport.errors import ExportError
from fbexport.graph import Activation, Binary, Constant, Conv, Linear, Mean, Shuffle
from fbexport.trace import trace
from fbspace.blocks import block_of, build_block
from fbspace.layers import conv_bn
from fbspace.opspec import OpSpec
from fbspace.space import load_space
from fbspace.weights import randomize


def graph_of(spec: OpSpec):
    return trace(randomize(build_block(spec), 0), spec.input_shape)


def kinds(graph):
    return [type(node).__name__ for node in graph.nodes]


def test_inverted_residual_becomes_three_convolutions_and_a_sum():
    graph = graph_of(OpSpec("ir", 24, 24, 14, 14, kernel=5, expansion=6))
    assert kinds(graph) == ["Conv", "Conv", "Conv", "Binary"]
    assert [node.activation for node in graph.nodes[:3]] == ["relu", "relu", "none"]
    assert [node.is_depthwise for node in graph.nodes[:3]] == [False, True, False]
    assert [node.source for node in graph.nodes[:3]] == ["expand.0", "depthwise.0", "project.0"]
    assert [value.name for value in graph.nodes[3].inputs] == ["input", graph.nodes[2].output.name]
    assert graph.input.shape == graph.output.shape == (1, 24, 14, 14)


def test_groups_keep_their_shuffle():
    graph = graph_of(OpSpec("ir", 16, 32, 7, 7, kernel=3, groups=2))
    assert kinds(graph) == ["Conv", "Shuffle", "Conv", "Conv"]
    assert isinstance(graph.nodes[1], Shuffle)
    assert graph.nodes[1].groups == 2


def test_squeeze_excite_and_hard_swish():
    graph = graph_of(OpSpec("ir", 16, 24, 7, 7, kernel=3, expansion=2, activation="hswish", squeeze_excite=True))
    wanted = ["Conv", "Activation", "Conv", "Activation", "Mean", "Conv", "Conv", "Activation", "Binary", "Conv"]
    assert kinds(graph) == wanted
    assert [node.function for node in graph.nodes if isinstance(node, Activation)] == ["hswish", "hswish", "hsigmoid"]
    assert isinstance(graph.nodes[4], Mean)
    assert graph.nodes[4].keep_dims
    assert isinstance(graph.nodes[8], Binary)
    assert graph.nodes[8].operation == "mul"


def test_classifier_is_mean_and_linear():
    graph = graph_of(OpSpec("classifier", 32, 10, 7, 7, activation="none"))
    assert kinds(graph) == ["Mean", "Linear"]
    assert isinstance(graph.nodes[1], Linear)
    assert graph.output.shape == (1, 10)


def test_output_shape_is_that_of_every_spec():
    for spec in load_space("fbnet").operators():
        size = () if spec.kind == "classifier" else block_of(spec).output_size(spec)
        assert graph_of(spec).output.shape == (1, spec.out_channels, *size)


@pytest.mark.parametrize("size", [7, 8])
def test_shapes_agree_with_torch(size):
    module = nn.Sequential(nn.Conv2d(2, 3, (3, 5), stride=(2, 1), padding=(0, 2)), nn.Conv2d(3, 4, 3, 2, 1)).eval()
    assert trace(module, (1, 2, size, 9)).output.shape == tuple(module(torch.zeros(1, 2, size, 9)).shape)


def test_no_convolution_is_run(monkeypatch):
    def refuse(*args):
        raise AssertionError("a convolution was run")

    monkeypatch.setattr(nn.functional, "conv2d", refuse)
    with pytest.raises(AssertionError, match="a convolution was run"):
        nn.Conv2d(8, 8, 3)(torch.zeros(1, 8, 9, 9))
    assert graph_of(OpSpec("ir", 8, 8, 9, 9, kernel=3)).nodes


def test_batch_norm_is_folded_exactly():
    module = randomize(conv_bn(3, 8, 3, activation="relu"), 1)
    (conv,) = trace(module, (1, 3, 5, 5)).nodes
    assert isinstance(conv, Conv)
    x = torch.randn(1, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    y = torch.relu(torch.conv2d(x, torch.from_numpy(conv.weight), torch.from_numpy(conv.bias), padding=1))
    np.testing.assert_allclose(y, module(x).detach(), rtol=1e-5, atol=1e-6)


def test_batch_norm_after_no_convolution_is_a_depthwise_one():
    module = randomize(nn.Sequential(nn.BatchNorm2d(4), nn.ReLU()), 0)
    (conv,) = trace(module, (1, 4, 3, 3)).nodes
    assert isinstance(conv, Conv)
    assert conv.is_depthwise
    assert conv.weight.shape == (4, 1, 1, 1)
    assert conv.activation == "relu"


class Branches(nn.Module):
    """The convolution's result is read twice, so nothing may be folded into it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.act = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.ReLU()

    def forward(self, x):
        y = self.conv(x)
        return self.act(self.norm(y)) + y


def test_a_result_that_is_read_twice_stays():
    graph = trace(randomize(Branches(), 0), (1, 4, 3, 3))
    assert kinds(graph) == ["Conv", "Conv", "Binary"]
    assert [node.activation for node in graph.nodes[:2]] == ["none", "relu"]
    assert graph.nodes[2].inputs == (graph.nodes[1].output, graph.nodes[0].output)


def test_identities_vanish():
    module = nn.Sequential(nn.Identity(), nn.Conv2d(1, 1, 1), nn.Dropout(), nn.Sequential(nn.Identity())).eval()
    assert kinds(trace(module, (1, 1, 2, 2))) == ["Conv"]
    with pytest.raises(ExportError, match="returns its input as it is"):
        trace(nn.Sequential(nn.Identity(), nn.Dropout()).eval(), (1, 1, 2, 2))


class Function(nn.Module):
    def __init__(self, function) -> None:
        super().__init__()
        self.function = function
        self.scale = nn.Parameter(torch.ones(4, 1, 1))

    def forward(self, x):
        return self.function(self, x)


class Named(nn.Module):
    """A block named `block` inside a larger module, computing a given function."""

    def __init__(self, function) -> None:
        super().__init__()
        self.block = Function(function)

    def forward(self, x):
        return self.block(x)


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (nn.Sequential(nn.Conv2d(4, 4, 1), nn.Softplus()), ["operator Softplus", "module '1'", "no translation"]),
        (nn.Sequential(nn.Sequential(nn.CELU())), ["operator CELU", "module '0.0'"]),
        (Named(lambda _, x: torch.erfc(x)), ["operator erfc", "module 'block' (test_trace.py:"]),
        (Named(lambda _, x: x.cumsum(1)), ["operator cumsum", "module 'block'"]),
        (Named(lambda _, x: torch.cat([x, x[:, :, 1:]])), ["operator cat", "module 'block'", "match except"]),
        (Named(lambda _, x: x.reshape(5, 3)), ["operator reshape", "module 'block'", "shape '[5, 3]' is invalid"]),
        (Named(lambda _, x: x + "3"), ["operator add", "module 'block'", "needs a tensor, not '3'"]),
        (Named(lambda _, x: x.mean(1, out=x)), ["operator mean", "module 'block'", "'out' is not known"]),
        (Named(lambda _, x: x + x.mean((2, 3))), ["operator add", "do not fit: (1, 4, 6, 6) and (1, 1, 1, 4)"]),
        (Named(lambda _, x: x[:, [0, 2]]), ["operator getitem", "module 'block'", "only slices and numbers"]),
        (Named(lambda _, x: x[:, 4:]), ["operator getitem", "module 'block'", "is empty"]),
        (Named(lambda _, x: x if x.sum() > 0 else -x), ["operator gt", "module 'block'", "no translation"]),
        (Named(lambda _, x: x if x.sum() else -x), ["module 'block' (Function)", "cannot be traced"]),
        (Named(lambda _, x: x.imag + 1), ["'imag' of a tensor is not known"]),
        (Named(lambda _, x: nn.ReLU()(x)), ["cannot be traced", "not installed as a submodule"]),
        (Named(lambda _, x: (x, x)), ["returns its input as it is"]),
        (nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"), ["operator Conv2d", "zero padding"]),
        (nn.ReflectionPad2d(1), ["operator ReflectionPad2d", "padding with a number", "'reflect'"]),
        (nn.Conv2d(4, 4, 3, dilation=3), ["3x3 kernel, 7x7 with its dilation, is larger than the padded 6x6 input"]),
        (nn.Conv2d(3, 4, 3), ["takes 3 channels, but 4 reach it"]),
        (nn.Conv2d(4, 4, 9), ["9x9 kernel is larger than the padded 6x6 input"]),
        (nn.Linear(4, 4), ["operator Linear", "module '0'", "N, 4"]),
        (Function(lambda _, x: torch.erfc(x)), ["operator erfc", "the network itself"]),
        (nn.AdaptiveMaxPool2d(4), ["operator AdaptiveMaxPool2d", "6x6 pixels do not divide into 4x4"]),
        (nn.Upsample(scale_factor=1.2), ["operator Upsample", "give the size instead"]),
        (nn.AvgPool2d(2, divisor_override=3), ["operator AvgPool2d", "divisor"]),
        (nn.BatchNorm2d(4, track_running_stats=False), ["operator BatchNorm2d", "no running statistics"]),
    ],
)
def test_what_cannot_be_written_is_named(module, words):
    with pytest.raises(ExportError) as raised:
        trace(module.eval(), (1, 4, 6, 6))
    for word in words:
        assert word in str(raised.value)


def test_a_single_layer_is_a_network():
    assert kinds(trace(nn.Conv2d(4, 4, 3).eval(), (1, 4, 6, 6))) == ["Conv"]


def test_training_mode_is_refused():
    module = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1)).eval()
    module[1].train()
    with pytest.raises(ExportError, match=r"module '1' is in training mode; call \.eval\(\)"):
        trace(module, (1, 1, 2, 2))


class Overwrites(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.act = nn.ReLU(inplace=True)

    def forward(self, x):
        return x + self.act(x)


def test_overwriting_a_tensor_used_elsewhere_is_refused():
    with pytest.raises(ExportError, match="drop inplace=True"):
        trace(Overwrites().eval(), (1, 4, 3, 3))
    trace(nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU(inplace=True)).eval(), (1, 4, 3, 3))


@pytest.mark.parametrize(
    "function",
    [
        lambda m, x: (x.mul_(2), x)[1],
        lambda m, x: x.flatten(2).add_(1).mean() + x,
        lambda m, x: torch.cat([part := x[:, :2], F.relu(x, inplace=True)[:, 2:], part], 1),
    ],
)
def test_nor_a_view_of_one_is_read_after_it_was_overwritten(function):
    with pytest.raises(ExportError, match="overwrites a tensor that is used elsewhere too"):
        trace(Function(function).eval(), (1, 4, 3, 3))


def test_forward_computes_with_shapes_and_parameters_without_operators():
    def forward(module, x):
        n, c, h, w = x.shape
        assert x.size(1) == c == 4
        assert (x.ndim, len(x), x.numel()) == (4, 1, 36)
        factor = math.sqrt(h) if x.dtype == torch.float32 else 1.0
        y = x.permute(0, 2, 3, 1).permute(0, 3, 1, 2).reshape(n, c, h, w).contiguous().to(torch.float32)
        return y * (module.scale.exp() * factor) if x.shape[-1] == w else None

    permuted, back, product = trace(Function(forward).eval(), (1, 4, 3, 3)).nodes
    assert (permuted.axes, back.axes) == ((0, 2, 3, 1), (0, 3, 1, 2))
    assert isinstance(product.inputs[1], Constant)
    np.testing.assert_allclose(product.inputs[1].array, np.full((1, 4, 1, 1), math.e * 3**0.5), rtol=1e-6)


def test_what_the_output_does_not_need_vanishes():
    assert kinds(trace(Function(lambda m, x: [x.chunk(2, 1), x + 1][1]).eval(), (1, 4, 3, 3))) == ["Binary"]


class TwoInputs(nn.Module):
    def forward(self, x, y):
        return x + y


def test_a_second_input_is_refused():
    with pytest.raises(ExportError, match="another input, 'y': give its shape, too"):
        trace(TwoInputs().eval(), (1, 4, 3, 3))
