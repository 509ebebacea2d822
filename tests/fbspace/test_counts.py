"""Multiply-accumulates and parameters by formula, which need no torch, against those of the modules."""

import random

import pytest
import torch
from torch import nn

from fbspace.architecture import ZOO, load_space_of
from fbspace.blocks import block_class, build_block
from fbspace.errors import SpecError
from fbspace.network import count, count_spec
from fbspace.opspec import OpSpec


def test_the_formulas_of_blocks_count_what_their_modules_have() -> None:
    counted = {
        spec
        for name in ("fbnet", "fbnet-cifar", "fbnet-tiny", "fbnetv2-tiny", *ZOO.names())
        for space in [load_space_of(name)]
        for every in [sorted({*space.operators(), *space.stem})]
        for spec in random.Random(name).sample(every, min(6, len(every)))
    }
    for spec in counted:
        with torch.device("meta"):
            block = build_block(spec)
        assert count(block, spec.input_shape) == count_spec(spec), spec.key()


def test_a_skip_and_a_pool_are_counted_as_built() -> None:
    for spec in (
        OpSpec("skip", 8, 8, 6, 6),
        OpSpec("skip", 8, 12, 7, 7, stride=2),
        OpSpec("pool", 8, 12, 7, 7, parameters=(("bias", False),)),
        OpSpec("ir", 8, 8, 7, 5, kernel=5, stride=2, expansion=3, groups=4, squeeze_excite=True),
    ):
        assert count(build_block(spec), spec.input_shape) == count_spec(spec)


def test_what_cannot_be_built_is_not_counted() -> None:
    with pytest.raises(SpecError, match="groups=4 must divide the 10 channels"):
        count_spec(OpSpec("ir", 8, 8, 7, 7, expansion=1.25, groups=4))


def test_a_block_whose_forward_raises_is_named(own_block: str, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = OpSpec(own_block, 8, 8, 6, 6)
    wrong = nn.MaxPool2d(3, 1, 2, dilation=2)  # torch refuses its padding when it runs
    monkeypatch.setattr(block_class(own_block), "build", lambda self, spec: wrong)
    with pytest.raises(SpecError, match=f"block '{own_block}' cannot run own_in8x6x6_out8.*: pad should be "):
        count_spec(spec)
