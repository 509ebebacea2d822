"""Masks against the un-shared construction: every option run by itself, and the blocks that stand for them."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from fbsearch.masked_block import Choice, MaskedMBConv, Widths
from fbsearch.masking import at_sides, channel_mask, equal, expected, intersperse, joint, subsample
from fbsearch.search import one_hot
from fbspace.network import count_spec
from fbspace.opspec import OpSpec

WIDTHS = Widths(ins=(8, 12, 16), expansions=(1, 1.5, 3), outs=(8, 16, 24))
X = torch.randn(4, 16, 6, 6, generator=torch.Generator().manual_seed(0))


def block_of(stride: int = 1, squeeze_excite: bool = False, kernel: int = 3, seed: int = 0) -> MaskedMBConv:
    torch.manual_seed(seed)
    spec = OpSpec("mbconv", 16, 24, 6, 6, kernel, stride, 3, activation="hswish", squeeze_excite=squeeze_excite)
    block = MaskedMBConv(spec, WIDTHS)
    for norm in block.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.bias)
    return block


def soft(*logits: float) -> Tensor:
    return torch.softmax(torch.tensor(logits), 0)


SOFT = Choice(soft(0.3, -0.5, 1), soft(0.1, 0.7, -0.2), soft(-1, 0.5, 0.2))


@pytest.mark.parametrize("squeeze_excite", [False, True])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("choice", list(itertools.product(range(3), repeat=3)))
def test_at_one_hot_it_is_the_ordinary_block(choice: tuple[int, int, int], stride: int, squeeze_excite: bool) -> None:
    block = block_of(stride, squeeze_excite)
    ins, expansion, outs = (
        options[i] for options, i in zip((WIDTHS.ins, WIDTHS.expansions, WIDTHS.outs), choice, strict=True)
    )
    x = X * (torch.arange(16) < ins)[:, None, None]
    y = block(x, Choice(*(one_hot(i, 3) for i in choice)))
    torch.testing.assert_close(y[:, :outs], block.inherit(int(ins), expansion, int(outs))(x[:, : int(ins)]))
    assert not y[:, int(outs) :].any()


def test_a_mask_is_the_sum_of_the_options_run_one_by_one() -> None:
    conv, g, widths = nn.Conv2d(16, 24, 3, bias=False), SOFT.outs, WIDTHS.outs
    explicit = torch.zeros(4, 24, 4, 4)
    for g_i, width in zip(g, widths, strict=True):  # a convolution of its own, with the first filters, per option
        explicit[:, :width] += g_i * nn.functional.conv2d(X, conv.weight[:width])
    torch.testing.assert_close(conv(X) * channel_mask(g, widths)[:, None, None], explicit, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("stride", [1, 2])
def test_a_soft_block_is_the_sum_of_its_options_run_one_by_one(stride: int) -> None:
    block = block_of(stride)
    y = block(X, SOFT)
    q = SOFT.expansions[0]
    before = (1 - q) * block.expand(X)
    before[:, :16] = before[:, :16] + q * X
    middle: Tensor | float = 0.0
    for p_i, ins in zip(SOFT.ins, WIDTHS.ins, strict=True):
        for q_j, expansion in zip(SOFT.expansions, WIDTHS.expansions, strict=True):
            width = block.inherit(ins, expansion, 8).project[0].in_channels  # as the ordinary block rounds it
            h = nn.functional.conv2d(
                before[:, :width], block.depthwise[0].weight[:width], None, stride, 1, groups=width
            )
            norm = block.depthwise[1]
            h = nn.functional.batch_norm(h, None, None, norm.weight[:width], norm.bias[:width], training=True)
            weight = block.project[0].weight[:, :width]
            middle = middle + p_i * q_j * nn.functional.conv2d(nn.functional.hardswish(h), weight)
    explicit = torch.zeros_like(y)
    for r_o, width in zip(SOFT.outs, WIDTHS.outs, strict=True):
        norm = block.project[1]
        explicit[:, :width] += r_o * nn.functional.batch_norm(
            middle[:, :width], None, None, norm.weight[:width], norm.bias[:width], training=True
        )
    if stride == 1:  # 8 and 16 may come in and go out
        explicit[:, :16] += (SOFT.ins[0] * SOFT.outs[0] + SOFT.ins[2] * SOFT.outs[1]) * X
    torch.testing.assert_close(y, explicit, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("squeeze_excite", [False, True])
@pytest.mark.parametrize("stride", [1, 2])
def test_multiply_accumulates_at_one_hot_are_those_of_the_ordinary_block(stride: int, squeeze_excite: bool) -> None:
    block = block_of(stride, squeeze_excite, kernel=5)
    for i, j, o in itertools.product(range(3), repeat=3):
        spec = OpSpec(
            "mbconv",
            WIDTHS.ins[i],
            WIDTHS.outs[o],
            6,
            6,
            5,
            stride,
            WIDTHS.expansions[j],
            activation="hswish",
            squeeze_excite=squeeze_excite,
        )
        out = spec.output_size[0] * spec.output_size[1]
        choice = Choice(one_hot(i, 3), one_hot(j, 3), one_hot(o, 3))
        assert block.macs(choice, torch.tensor(36.0), torch.tensor(float(out))) == count_spec(spec).macs


def test_multiply_accumulates_have_the_gradient_of_finite_differences() -> None:
    block, pixels = block_of(squeeze_excite=True), torch.tensor(36.0, dtype=torch.float64)
    logits = [torch.randn(3, dtype=torch.float64, requires_grad=True) for _ in range(3)]

    def macs(*theta: Tensor) -> Tensor:
        return block.macs(Choice(*(torch.softmax(t, 0) for t in theta)), pixels, pixels) / 1000

    assert torch.autograd.gradcheck(macs, logits)


@given(side=st.integers(1, 20), data=st.data())
def test_what_is_subsampled_is_put_back_where_it_was(side: int, data: st.DataObject) -> None:
    small = data.draw(st.integers(1, side))
    x = torch.randn(2, 3, side, side) + 10  # nowhere zero
    taken = subsample(x, small)
    torch.testing.assert_close(taken, nn.functional.interpolate(x, size=(small, small), mode="nearest"))
    back = intersperse(taken, side)
    assert torch.equal(subsample(back, small), taken)
    assert torch.equal(back[back != 0], x[back != 0])
    assert int((back != 0).sum()) == taken.numel()


@pytest.mark.parametrize("stride", [1, 2])
def test_sides_are_run_one_by_one_and_put_together(stride: int) -> None:
    conv, g, sides = nn.Conv2d(3, 5, 3, stride, 1), soft(0.2, -0.3, 0.6), (8, 12, 16)
    x = torch.randn(2, 3, 16, 16)
    explicit = torch.zeros(2, 5, 16 // stride, 16 // stride)
    for g_i, side in zip(g, sides, strict=True):
        y = conv(nn.functional.interpolate(x, size=(side, side), mode="nearest"))
        for row, column in itertools.product(range(side // stride), repeat=2):
            at = row * 16 // side, column * 16 // side
            explicit[:, :, at[0], at[1]] += g_i * y[:, :, row, column]
    torch.testing.assert_close(at_sides(conv, x, g, sides, stride), explicit, rtol=1e-5, atol=1e-5)


def test_one_side_through_several_layers_is_a_smaller_image() -> None:
    convs = [nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 4, 3, 1, 1), nn.Conv2d(4, 4, 5, 2, 2)]
    x, g = torch.randn(2, 3, 15, 15), one_hot(1, 3)
    y, small = x, subsample(x, 11)
    sides = (15, 11, 6)
    for conv, stride in zip(convs, (2, 1, 2), strict=True):
        y, small = at_sides(conv, y, g, sides, stride), conv(small)
        sides = (-(-sides[0] // stride), -(-sides[1] // stride), -(-sides[2] // stride))
    torch.testing.assert_close(subsample(y, sides[1]), small)


def test_joint_expected_and_equal() -> None:
    a, b = soft(0.0, 1.0), soft(2.0, -1.0, 0.0)
    assert joint(a, b).tolist() == pytest.approx([float(x * y) for x in a for y in b])
    assert float(expected(b, (2, 4, 8))) == pytest.approx(float(2 * b[0] + 4 * b[1] + 8 * b[2]))
    assert float(equal(a, (4, 8), b, (8, 2, 4))) == pytest.approx(float(a[0] * b[2] + a[1] * b[0]))
