"""Ghost bottlenecks, ConvNeXt blocks and ShuffleNetV2 units against those of others, and what they refuse."""

import itertools

import pytest
import torch
from torch import nn

from fbspace.blocks import block_of, build_block
from fbspace.errors import SpecError
from fbspace.layers import ChannelAttention
from fbspace.network import count, count_spec
from fbspace.opspec import OpSpec
from fbspace.weights import randomize
from fbspace.widths import attention_kernel
from peers.published import of_timm


def operator(kind: str, out_channels: int = 16, own: tuple[tuple[str, object], ...] = (), **fields: object) -> OpSpec:
    return OpSpec(kind, 16, out_channels, 9, 10, parameters=own, **fields)


@torch.no_grad()
def assert_equals(spec: OpSpec, theirs: nn.Module) -> None:
    """Copy weights by their order, and compare what comes out and what is counted."""
    ours = build_block(spec).eval()
    state = randomize(theirs, seed=1).state_dict().values()
    ours.load_state_dict(dict(zip(ours.state_dict(), state, strict=True)))
    x = torch.randn(2, *spec.input_shape[1:], generator=torch.Generator().manual_seed(2))
    found, expected = ours(x), theirs(x)
    assert found.shape[2:] == block_of(spec).output_size(spec)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))
    assert count(theirs, spec.input_shape) == count_spec(spec)


SHAPES = [(16, 1), (24, 1), (16, 2), (24, 2)]


@pytest.mark.parametrize(("out_channels", "stride"), SHAPES)
@pytest.mark.parametrize(("kernel", "squeeze_excite"), [(3, False), (5, True)])
def test_a_ghost_bottleneck_is_timms(out_channels: int, stride: int, kernel: int, squeeze_excite: bool) -> None:
    ghostnet = of_timm("models.ghostnet")
    theirs = ghostnet.GhostBottleneck(16, 36, out_channels, kernel, stride, se_ratio=0.25 if squeeze_excite else 0)
    fields = {"kernel": kernel, "stride": stride, "squeeze_excite": squeeze_excite, "expansion": 2.25}
    assert_equals(operator("ghost", out_channels, **fields), theirs)


@pytest.mark.parametrize(("ratio", "cheap_kernel"), [(2, 5), (3, 3), (4, 1)])
def test_a_ghost_modules_ratio_and_kernel_are_timms(ratio: int, cheap_kernel: int) -> None:
    """Where the ratio does not divide the width, what is beyond the width is left away."""
    ghostnet = of_timm("models.ghostnet")
    theirs = ghostnet.GhostBottleneck(16, 16, 16)
    theirs.ghost1 = ghostnet.GhostModule(16, 16, ratio=ratio, dw_size=cheap_kernel)
    theirs.ghost2 = ghostnet.GhostModule(16, 16, ratio=ratio, dw_size=cheap_kernel, act_layer=Nothing)
    own = {"cheap_kernel": cheap_kernel, "ratio": ratio}
    kept = tuple(
        (name, value) for name, value in own.items() if (name, value) not in (("cheap_kernel", 3), ("ratio", 2))
    )
    assert_equals(operator("ghost", own=kept), theirs)


class Nothing(nn.Identity):
    def __init__(self, inplace: bool) -> None:
        super().__init__()


@pytest.mark.parametrize(("out_channels", "stride"), SHAPES)
@pytest.mark.parametrize(("kernel", "layer_scale"), [(7, True), (3, False)])
def test_a_convnext_block_is_timms(out_channels: int, stride: int, kernel: int, layer_scale: bool) -> None:
    """With what stands before a stage where the shape changes; an odd height is padded as here."""
    convnext = of_timm("models.convnext")
    theirs = convnext.ConvNeXtStage(
        16, out_channels, kernel, stride, 1, ls_init_value=1.0 if layer_scale else None, conv_mlp=True,
        norm_layer=convnext.LayerNorm2d,
    )  # fmt: skip
    if stride == 2:
        theirs.downsample[1].padding = (1, 0)
    own = () if layer_scale else (("layer_scale", False),)
    fields = {"kernel": kernel, "stride": stride, "expansion": 4, "activation": "gelu"}
    assert_equals(operator("convnext", out_channels, own, **fields), theirs)


class ShuffleUnit(nn.Module):
    """The unit as torchvision has it, after figure 3 of the paper."""

    def __init__(self, c_in: int, c_out: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.splits, half = stride == 1 and c_in == c_out, c_out // 2

        def depthwise(c: int) -> list[nn.Module]:
            return [nn.Conv2d(c, c, kernel, stride, kernel // 2, groups=c, bias=False), nn.BatchNorm2d(c)]

        def pointwise(c: int) -> list[nn.Module]:
            return [nn.Conv2d(c, half, 1, bias=False), nn.BatchNorm2d(half), nn.ReLU()]

        c = half if self.splits else c_in
        self.branch1 = nn.Identity() if self.splits else nn.Sequential(*depthwise(c), *pointwise(c))
        self.branch2 = nn.Sequential(*pointwise(c), *depthwise(half), *pointwise(half))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first, second = x.chunk(2, 1) if self.splits else (x, x)
        return nn.functional.channel_shuffle(torch.cat([self.branch1(first), self.branch2(second)], 1), 2)


@pytest.mark.parametrize(("out_channels", "stride"), SHAPES)
@pytest.mark.parametrize("kernel", [3, 5])
def test_a_shufflenet_unit_is_the_papers(out_channels: int, stride: int, kernel: int) -> None:
    theirs = ShuffleUnit(16, out_channels, kernel, stride)
    assert_equals(operator("shuffle", out_channels, kernel=kernel, stride=stride), theirs)


@pytest.mark.parametrize("channels", [1, 2, 3, 16, 96, 128, 500])
def test_channel_attention_is_timms(channels: int) -> None:
    theirs = of_timm("layers.eca").EcaModule(channels)
    ours = ChannelAttention(attention_kernel(channels))
    ours.load_state_dict({"convolution.weight": theirs.conv.weight})
    x = torch.randn(2, channels, 5, 6, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(ours(x), theirs(x))


@pytest.mark.parametrize("kind", ["ir", "mbconv"])
@pytest.mark.parametrize(("out_channels", "stride"), SHAPES)
def test_an_inverted_residual_with_channel_attention_is_timms(kind: str, out_channels: int, stride: int) -> None:
    attention = of_timm("layers.eca").EcaModule
    blocks = of_timm("models._efficientnet_blocks")
    theirs = blocks.InvertedResidual(16, out_channels, 5, stride, exp_ratio=6, se_layer=attention)
    fields = {"kernel": 5, "stride": stride, "expansion": 6, "own": (("eca", True),)}
    assert_equals(operator(kind, out_channels, **fields), theirs)


def test_formulas_count_what_the_modules_have() -> None:
    ghosts = itertools.product(
        [(1, ()), (6, (("ratio", 3),)), (2.3, (("cheap_kernel", 5), ("ratio", 5)))], [False, True]
    )
    fields = [("ghost", {"expansion": e, "own": own, "squeeze_excite": se}) for (e, own), se in ghosts]
    fields += [("convnext", {"expansion": e, "own": own}) for e in (1, 3.3) for own in ((), (("layer_scale", False),))]
    fields += [("shuffle", {}), *((kind, {"own": (("eca", True),)}) for kind in ("ir", "mbconv", "fusedmb"))]
    for (kind, each), (channels, stride), kernel in itertools.product(fields, [*SHAPES, (30, 3)], [1, 7]):
        spec = operator(kind, channels, kernel=kernel, stride=stride, **each)
        assert count(build_block(spec), spec.input_shape) == count_spec(spec), spec.key()


@pytest.mark.parametrize(
    ("kind", "fields", "message"),
    [
        ("ghost", {"groups": 2}, "groups must be 1 in a 'ghost' operator, not 2"),
        ("ghost", {"own": (("cheap_kernel", 4),)}, "cheap_kernel must be odd, not 4, in ghost_in16x9x10"),
        ("convnext", {"squeeze_excite": True}, "squeeze_excite must be False in a 'convnext' operator, not True"),
        (
            "uib",
            {"kernel": 3, "own": (("eca", True),), "squeeze_excite": True},
            "eca stands in place of squeeze-excite",
        ),
        ("shuffle", {"expansion": 3}, "expansion must be 1 in a 'shuffle' operator, not 3"),
        ("shuffle", {"out_channels": 17}, "out_channels must be even in a 'shuffle' operator, not 17"),
    ],
)
def test_what_a_block_cannot_be_is_refused(kind: str, fields: dict[str, object], message: str) -> None:
    for refuses in (build_block, count_spec):
        with pytest.raises(SpecError, match=message):
            refuses(operator(kind, **fields))
