"""Masks against the un-shared construction: every option run by itself, and the blocks that stand for them."""

import itertools
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from fbsearch.fbnetv2.blocks import Choice, Widths, inherit
from fbsearch.fbnetv2.blocks.mbconv import MaskedMBConv
from fbsearch.fbnetv2.blocks.skip import MaskedSkip
from fbsearch.fbnetv2.masks import at_sides, intersperse, joint, masked, same, subsample
from fbsearch.theta import one_hot
from fbspace.errors import SpecError
from fbspace.opspec import OpSpec

WIDTHS = Widths(ins=(8, 12, 16), expansions=(1, 1.5, 3), outs=(8, 16, 24))
X = torch.randn(4, 16, 6, 6, generator=torch.Generator().manual_seed(0))


def block_of(
    stride: int = 1, squeeze_excite: bool = False, kernel: int = 3, seed: int = 0, like_fbnetv3: bool = False
) -> MaskedMBConv:
    torch.manual_seed(seed)
    own = (("squeeze_activation", "hswish"),) if squeeze_excite else ()
    if like_fbnetv3:
        own = (("padding", 0), *own, ("squeeze_of", "input"))
    spec = OpSpec("mbconv", 16, 24, 6, 6, kernel, stride, 3, 1, "hswish", squeeze_excite, own)
    block = MaskedMBConv(spec, WIDTHS)
    for norm in block.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.bias)
    return block


def ordinary(block: MaskedMBConv | MaskedSkip, ins: int, expansion: float, outs: int) -> nn.Module:
    spec = replace(block.spec, in_channels=ins, expansion=expansion, out_channels=outs)
    return inherit(spec, block.weights(spec))


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
    torch.testing.assert_close(y[:, :outs], ordinary(block, int(ins), expansion, int(outs))(x[:, : int(ins)]))
    assert not y[:, int(outs) :].any()


def test_it_squeezes_and_is_padded_as_the_ordinary_block_is() -> None:
    block = block_of(2, squeeze_excite=True, like_fbnetv3=True)
    for at, ins in enumerate(WIDTHS.ins):
        x = X * (torch.arange(16) < ins)[:, None, None]
        y = block(x, Choice(one_hot(at, 3), one_hot(2, 3), one_hot(1, 3)))
        assert y.shape == (4, 24, 2, 2)
        torch.testing.assert_close(y[:, :16], ordinary(block, int(ins), 3, 16)(x[:, : int(ins)]))


def test_a_block_with_groups_is_refused() -> None:
    with pytest.raises(SpecError, match="masks, which know no groups"):
        MaskedMBConv(OpSpec("mbconv", 16, 24, 6, 6, 3, expansion=3, groups=2), WIDTHS)


def test_a_mask_is_the_sum_of_the_options_run_one_by_one() -> None:
    conv, g, widths = nn.Conv2d(16, 24, 3, bias=False), SOFT.outs, WIDTHS.outs
    explicit = torch.zeros(4, 24, 4, 4)
    for g_i, width in zip(g, widths, strict=True):  # a convolution of its own, with the first filters, per option
        explicit[:, :width] += g_i * nn.functional.conv2d(X, conv.weight[:width])
    torch.testing.assert_close(masked(conv(X), g, widths), explicit, rtol=1e-5, atol=1e-5)


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
            width = ordinary(block, ins, expansion, 8).project[0].in_channels  # as the ordinary block rounds it
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
        explicit[:, :8] += SOFT.ins[0] * SOFT.outs[0] * X[:, :8]
        explicit[:, :16] += SOFT.ins[2] * SOFT.outs[1] * X
    torch.testing.assert_close(y, explicit, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("stride", [1, 2])
def test_skip_is_the_sum_of_its_options_run_one_by_one(stride: int) -> None:
    torch.manual_seed(0)
    spec = OpSpec("skip", 16, 24, 6, 6, stride=stride, activation="relu")
    skip = MaskedSkip(spec, Widths(WIDTHS.ins, (1,), WIDTHS.outs)).double()
    x = X.double()
    explicit = torch.zeros(4, 24, 6 // stride, 6 // stride, dtype=torch.float64)
    for (p_i, ins), (r_o, outs) in itertools.product(
        zip(SOFT.ins, WIDTHS.ins, strict=True), zip(SOFT.outs, WIDTHS.outs, strict=True)
    ):
        taken = ordinary(skip, ins, 1, outs)
        if isinstance(taken, nn.Identity):
            explicit[:, :outs] += p_i * r_o * x[:, :outs]
        else:  # all see the map that comes in, whose channels are weighted already
            explicit[:, :outs] += p_i * r_o * skip.project(x)[:, :outs]
    torch.testing.assert_close(skip(x, SOFT), explicit, rtol=1e-5, atol=1e-5)


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
    torch.testing.assert_close(at_sides(conv, x, g, sides, 16 // stride), explicit, rtol=1e-5, atol=1e-5)


def test_one_side_through_several_layers_is_a_smaller_image() -> None:
    convs = [nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 4, 3, 1, 1), nn.Conv2d(4, 4, 5, 2, 2)]
    x, g = torch.randn(2, 3, 15, 15), one_hot(1, 3)
    y, small = x, subsample(x, 11)
    sides = (15, 11, 6)
    for conv, stride in zip(convs, (2, 1, 2), strict=True):
        below = (-(-sides[0] // stride), -(-sides[1] // stride), -(-sides[2] // stride))
        y, small, sides = at_sides(conv, y, g, sides, below[0]), conv(small), below
    torch.testing.assert_close(subsample(y, sides[1]), small)


def test_joint_and_same() -> None:
    a, b = soft(0.0, 1.0), soft(2.0, -1.0, 0.0)
    assert joint(a, b).tolist() == pytest.approx([float(x * y) for x in a for y in b])
    assert same(a, (4, 8), (8, 2, 4)).tolist() == pytest.approx([float(a[1]), 0, float(a[0])])
