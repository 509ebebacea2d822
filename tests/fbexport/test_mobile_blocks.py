"""Blocks of modern mobile networks in every format, in turn in `make test`: their files compute what torch does."""

import pytest

from fbexport.export import export_spec
from fbspace.blocks import build_block
from fbspace.opspec import OpSpec
from fbspace.weights import randomize
from peers.installed import FORMATS_HERE


def operator(kind, out_channels=16, height=9, width=10, own=(), **fields):
    return OpSpec(kind, 16, out_channels, height, width, parameters=own, **fields)


OPERATORS = [
    operator("ghost", kernel=3, expansion=3),
    operator("ghost", 24, kernel=5, stride=2, expansion=3, squeeze_excite=True),
    operator("ghost", expansion=2, own=(("cheap_kernel", 5), ("ratio", 3))),
    operator("convnext", kernel=7, expansion=4, activation="gelu"),
    operator("convnext", 24, kernel=5, stride=2, expansion=4, activation="gelu"),
    operator("convnext", 24, height=8, kernel=3, expansion=2, activation="silu", own=(("layer_scale", False),)),
    operator("shuffle", kernel=3),
    operator("shuffle", 24, kernel=5, stride=2),
    operator("ir", kernel=3, expansion=3, own=(("eca", True),)),
    operator("mbconv", 24, kernel=5, stride=2, expansion=6, activation="silu", own=(("eca", True),)),
    operator("uib", kernel=5, expansion=4, own=(("eca", True), ("start_kernel", 3))),
    operator("fusedmb", 24, kernel=3, stride=2, expansion=4, activation="silu", squeeze_excite=True),
    operator("repvgg", 24, kernel=3, stride=2),
]


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        pytest.param(spec, name, marks=pytest.mark.full if (at - place) % 3 else (), id=f"{spec.key()}-{name}")
        for at, spec in enumerate(OPERATORS)
        for place, name in enumerate(FORMATS_HERE)
    ],
)
def test_a_block_computes_what_torch_does(name, spec, assert_equals_torch):
    assert_equals_torch(name, export_spec(spec, name, seed=3), randomize(build_block(spec), 3), spec.input_shape)
