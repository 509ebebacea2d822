"""What every block must do, for every name found: the shape its spec promises, and the batch left alone."""

import pytest
import torch

from fbbase.errors import UnknownNameError
from fbspace.blocks import BLOCKS, block_of, build_block
from fbspace.errors import SpecError
from fbspace.opspec import OpSpec
from fbspace.weights import randomize


@pytest.mark.parametrize("name", BLOCKS.names())
@pytest.mark.parametrize("size", [8, 7])
@pytest.mark.parametrize(("in_channels", "out_channels", "stride"), [(8, 8, 1), (8, 12, 1), (8, 8, 2), (8, 12, 2)])
@pytest.mark.parametrize("kernel", [3, 5])
def test_output_has_the_shape_of_the_spec(
    name: str, size: int, in_channels: int, out_channels: int, stride: int, kernel: int
) -> None:
    spec = OpSpec(name, in_channels, out_channels, size, size, kernel=kernel, stride=stride)
    module = randomize(build_block(spec), seed=0)
    x = torch.randn(2, in_channels, size, size, generator=torch.Generator().manual_seed(0))
    y = module(x)
    expected = (2, out_channels) if name == "classifier" else (2, out_channels, *block_of(spec).output_size(spec))
    assert y.shape == expected
    assert torch.isfinite(y).all()
    torch.testing.assert_close(module(x[:1]), y[:1])  # in eval mode, images do not see each other


@pytest.mark.parametrize(("kind", "groups"), [("ir", 1), ("ir", 2), ("mbconv", 1)])
@pytest.mark.parametrize("squeeze_excite", [False, True])
def test_inverted_residual_adds_its_input_where_shapes_allow(kind: str, groups: int, squeeze_excite: bool) -> None:
    spec = OpSpec(kind, 8, 8, 6, 6, kernel=3, expansion=3, groups=groups, squeeze_excite=squeeze_excite)
    module = build_block(spec).eval()
    x = torch.randn(1, 8, 6, 6)
    torch.nn.init.zeros_(module.project[1].weight)  # the last BN silenced: only the input is left
    assert torch.equal(module(x), x)


def test_mbconv_rounds_its_middle_and_drops_the_first_convolution_at_expansion_1() -> None:
    # F1's 24 · 4.7912 = 114.99 → 112; 16 · 1.0625 = 17 would lose over 5 % as 16 → 24
    for in_channels, expansion, middle in ((24, 4.7912, 112), (16, 1.0625, 24), (24, 3.6667, 88)):
        module = build_block(OpSpec("mbconv", in_channels, 8, 6, 6, kernel=3, expansion=expansion))
        assert module.expand[0].out_channels == module.depthwise[0].groups == middle
    assert isinstance(build_block(OpSpec("mbconv", 17, 8, 6, 6, kernel=3)).expand, torch.nn.Identity)


def test_mbconv_has_groups_as_mobile_vision_has_them() -> None:
    """At expansion 1 there is no first 1x1 to group; the channels are shuffled and the last 1x1 is grouped."""
    module = build_block(OpSpec("mbconv", 16, 16, 6, 6, kernel=3, groups=2))
    assert [type(part).__name__ for part in (module.expand, module.shuffle)] == ["Identity", "ChannelShuffle"]
    assert (module.depthwise[0].groups, module.project[0].groups) == (16, 2)
    module = build_block(OpSpec("mbconv", 16, 24, 6, 6, kernel=3, groups=2, expansion=3))
    assert (module.expand[0].groups, module.project[0].groups) == (2, 2)
    for kind in ("ir", "mbconv"):  # 9 · 1.2 = 10.8 → 11 or 8
        with pytest.raises(SpecError, match=r"groups=3 must divide the \d+ channels in the middle of "):
            build_block(OpSpec(kind, 9, 9, 6, 6, groups=3, expansion=1.2))


def test_the_gate_has_the_activation_that_is_asked_for() -> None:
    x = torch.randn(2, 8, 6, 6)
    for parameters, function in ((), torch.relu), ((("squeeze_activation", "hswish"),), torch.nn.functional.hardswish):
        spec = OpSpec("mbconv", 8, 8, 6, 6, kernel=3, squeeze_excite=True, parameters=parameters)
        gate = randomize(build_block(spec), seed=0).squeeze_excite
        w1, w2 = gate.reduce, gate.expand
        y = function(x.mean((2, 3)) @ w1.weight[:, :, 0, 0].T + w1.bias) @ w2.weight[:, :, 0, 0].T + w2.bias
        torch.testing.assert_close(gate(x), x * ((y + 3).clamp(0, 6) / 6)[:, :, None, None])
    without = OpSpec("mbconv", 8, 8, 6, 6, kernel=3, parameters=(("squeeze_activation", "hswish"),))
    with pytest.raises(SpecError, match="squeeze_activation is of squeeze-excite, which mbconv_in8x6x6"):
        build_block(without)


def test_pool_is_what_it_says() -> None:
    module = randomize(build_block(OpSpec("pool", 8, 12, 6, 6, activation="hswish")), seed=0)
    x = torch.randn(2, 8, 6, 6)
    y = x.mean((2, 3)) @ module.conv.weight[:, :, 0, 0].T + module.conv.bias
    torch.testing.assert_close(module(x), (y * (y + 3).clamp(0, 6) / 6)[:, :, None, None])


def test_channel_shuffle_interleaves_groups() -> None:
    from fbspace.layers import ChannelShuffle

    x = torch.arange(6.0).reshape(1, 6, 1, 1)
    assert ChannelShuffle(2)(x).flatten().tolist() == [0, 3, 1, 4, 2, 5]


def test_skip_is_the_identity_or_a_strided_convolution() -> None:
    x = torch.randn(1, 8, 6, 6)
    assert torch.equal(build_block(OpSpec("skip", 8, 8, 6, 6))(x), x)
    assert build_block(OpSpec("skip", 8, 12, 6, 6, stride=2)).eval()(x).shape == (1, 12, 3, 3)


def test_an_unknown_block_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="unknown block 'bottleneck'"):
        build_block(OpSpec("bottleneck", 8, 8, 6, 6))
