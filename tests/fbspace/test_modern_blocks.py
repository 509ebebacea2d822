"""Universal inverted bottlenecks, fused MBConv and folded RepVGG against timm's blocks, and what they refuse."""

import itertools

import pytest
import torch

from fbspace.blocks import block_of, build_block
from fbspace.errors import SpecError
from fbspace.network import count, count_spec
from fbspace.opspec import OpSpec
from fbspace.weights import randomize
from peers.published import copy_weights, of_timm


def operator(kind: str, out_channels: int = 16, **fields: object) -> OpSpec:
    """Return an operator on 16 x 9 x 10; fields that no operator has are the block's own parameters."""
    own = {name: fields.pop(name) for name in ("start_kernel", "squeeze_of", "padding", "depthwise") if name in fields}
    return OpSpec(kind, 16, out_channels, 9, 10, parameters=tuple(sorted(own.items())), **fields)


def assert_equals(spec: OpSpec, theirs: torch.nn.Module) -> None:
    ours = build_block(spec).eval()
    copy_weights(randomize(theirs, seed=1), ours)
    x = torch.randn(2, *spec.input_shape[1:], generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        found, expected = ours(x), theirs(x)
    assert found.shape[2:] == block_of(spec).output_size(spec)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))
    assert count(theirs, spec.input_shape) == count_spec(spec)


@pytest.mark.parametrize(
    ("start", "middle", "stride", "out_channels"),
    [
        (start, middle, stride, out_channels)
        for start, middle in itertools.product([1, 3, 5], [1, 3, 5])
        for stride, out_channels in [(1, 16), (1, 24), (2, 16)]
        if max(start, middle) > 1 or stride == 1
    ],
)
def test_a_uib_is_timms(start: int, middle: int, stride: int, out_channels: int) -> None:
    """The second depthwise convolution has the stride, the first one where there is no second."""
    kernels = {"dw_kernel_size_start": start if start > 1 else 0, "dw_kernel_size_mid": middle if middle > 1 else 0}
    theirs = of_timm("models._efficientnet_blocks").UniversalInvertedResidual(
        16, out_channels, **kernels, stride=stride, exp_ratio=2.6, layer_scale_init_value=None
    )
    own = {"start_kernel": start} if start > 1 else {}
    assert_equals(operator("uib", out_channels, kernel=middle, stride=stride, expansion=2.6, **own), theirs.eval())


@pytest.mark.parametrize(("kernel", "stride", "out_channels"), [(3, 1, 16), (3, 2, 16), (5, 1, 24), (1, 1, 16)])
def test_a_fused_mbconv_is_timms_edge_residual(kernel: int, stride: int, out_channels: int) -> None:
    theirs = of_timm("models._efficientnet_blocks").EdgeResidual(
        16, out_channels, exp_kernel_size=kernel, stride=stride, exp_ratio=4
    )
    assert_equals(operator("fusedmb", out_channels, kernel=kernel, stride=stride, expansion=4), theirs.eval())


@pytest.mark.parametrize("groups", [1, 4, 16])
def test_repvgg_is_timms_block_when_it_is_folded(groups: int) -> None:
    byobnet = of_timm("models.byobnet")
    block = randomize(byobnet.RepVggBlock(16, 16, 3, group_size=16 // groups if groups > 1 else None), seed=3).eval()
    x = torch.randn(2, 16, 9, 10, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        expected = block(x)
    block.reparameterize()
    own = {"depthwise": True} if groups == 16 else {"groups": groups}
    ours = build_block(operator("repvgg", kernel=3, **own))
    copy_weights(block, ours)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


def test_formulas_count_what_the_modules_have() -> None:
    for kind, expansion, squeezed in itertools.product(("uib", "fusedmb", "mbconv"), (1, 2.6), ("", "middle", "input")):
        own = {"squeeze_of": "input"} if squeezed == "input" else {}
        own |= {"start_kernel": 5} if kind == "uib" else {}
        own |= {"padding": 1} if kind == "mbconv" else {}
        spec = operator(kind, 24, kernel=5, stride=2, expansion=expansion, squeeze_excite=bool(squeezed), **own)
        module = build_block(spec)
        assert module(torch.ones(2, *spec.input_shape[1:])).shape[2:] == block_of(spec).output_size(spec)
        assert count(module, spec.input_shape) == count_spec(spec), spec.key()


def test_squeeze_excite_squeezes_to_a_quarter_of_the_middle_or_of_the_input() -> None:
    # FBNetV3: 40 / 4 = 10 would lose over 5 % as 8
    for own, squeezed in (((), 32), ((("squeeze_of", "input"),), 16)):
        spec = OpSpec("mbconv", 40, 40, 8, 8, kernel=3, expansion=3, squeeze_excite=True, parameters=own)
        assert build_block(spec).squeeze_excite.reduce.out_channels == squeezed


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (operator("uib", stride=2), "has no depthwise convolution to take the stride: give kernel or start_kernel"),
        (operator("uib", start_kernel=4), "start_kernel must be odd, not 4"),
        (operator("uib", kernel=3, groups=2), "groups must be 1 in a 'uib' operator, not 2"),
        (
            operator("fusedmb", kernel=3, groups=16, expansion=1.5),
            "groups=16 must divide the 24 channels in the middle",
        ),
        (operator("repvgg", kernel=3, expansion=2), "expansion must be 1 in a 'repvgg' operator, not 2"),
        (operator("repvgg", 24, kernel=3, depthwise=True), "must go out with a multiple of the channels that come in"),
        (operator("mbconv", kernel=3, squeeze_of="input"), "squeeze_of is of squeeze-excite, which mbconv_in16x9x10"),
        (operator("mbconv", kernel=5, padding=1), "padding is told where the stride is above 1"),
        (operator("mbconv", kernel=3, stride=2, padding=2), "padding=2 does not fit kernel and input"),
        (operator("mbconv", kernel=11, stride=2, padding=0), "padding=0 does not fit kernel and input"),
    ],
    ids=lambda value: value.key() if isinstance(value, OpSpec) else "",
)
def test_what_cannot_be_built_is_neither_built_nor_counted(spec: OpSpec, message: str) -> None:
    for use in (build_block, count_spec):
        with pytest.raises(SpecError, match=message):
            use(spec)
