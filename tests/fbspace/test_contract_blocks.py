"""What every block must do, for every name found: the shape its spec promises, and the batch left alone."""

import pytest
import torch

from fbbase.errors import UnknownNameError
from fbspace.blocks import BLOCKS, build_block
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
    expected = (2, out_channels) if name == "classifier" else (2, out_channels, *spec.output_size)
    assert y.shape == expected
    assert torch.isfinite(y).all()
    torch.testing.assert_close(module(x[:1]), y[:1])  # in eval mode, images do not see each other


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("squeeze_excite", [False, True])
def test_inverted_residual_adds_its_input_where_shapes_allow(groups: int, squeeze_excite: bool) -> None:
    spec = OpSpec("ir", 8, 8, 6, 6, kernel=3, expansion=3, groups=groups, squeeze_excite=squeeze_excite)
    module = build_block(spec).eval()
    x = torch.randn(1, 8, 6, 6)
    torch.nn.init.zeros_(module.project[1].weight)  # the last BN silenced: only the input is left
    assert torch.equal(module(x), x)


def test_channel_shuffle_interleaves_groups() -> None:
    from fbspace.layers import ChannelShuffle

    x = torch.arange(6.0).reshape(1, 6, 1, 1)
    assert ChannelShuffle(2)(x).flatten().tolist() == [0, 3, 1, 4, 2, 5]


def test_skip_is_the_identity_or_a_strided_convolution() -> None:
    x = torch.randn(1, 8, 6, 6)
    assert torch.equal(build_block(OpSpec("skip", 8, 8, 6, 6))(x), x)
    assert build_block(OpSpec("skip", 8, 12, 6, 6, stride=2)).eval()(x).shape == (1, 12, 3, 3)


def test_an_unknown_block_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="unknown block 'mbconv'"):
        build_block(OpSpec("mbconv", 8, 8, 6, 6))
