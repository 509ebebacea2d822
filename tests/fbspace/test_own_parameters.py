"""Parameters of a block's own: in space files and architectures, checked, and part of what an operator is."""

from pathlib import Path

import pytest

from fbbase.errors import FbError
from fbspace.architecture import Architecture, load_architecture
from fbspace.blocks import block_of, own_parameters, parameters_of
from fbspace.errors import SpaceError, SpecError
from fbspace.listing import scale
from fbspace.opspec import OpSpec
from fbspace.space import Space, load_space

SPACE = """
description = "three of one kind"
input = { channels = 3, size = 8 }
classes = 2
head_channels = [8]
stem = [{ kind = "conv", channels = 8, kernel = 3 }]
stages = [{ channels = 8, repeats = 2, stride = 1 }]
[candidates]
plain = { kind = "own", dilation = 1, ratio = 1, mode = "mean" }
far = { kind = "own", dilation = 2 }
wide = { kind = "own", ratio = 2, is_wide = true, mode = "max" }
"""


@pytest.fixture
def space(own_block: str, tmp_path: Path) -> Space:
    (tmp_path / "mine.toml").write_text(SPACE)
    return load_space(str(tmp_path / "mine.toml"), build=True)


def test_a_value_at_its_default_is_left_away_and_others_tell_operators_apart(space: Space) -> None:
    keys = [spec.key() for spec in space.operators()]
    assert keys[1:4] == [
        "own_in8x8x8_out8_k1_s1_e1_g1_relu",
        "own_in8x8x8_out8_k1_s1_e1_g1_relu_dilation=2",
        "own_in8x8x8_out8_k1_s1_e1_g1_relu_is_wide=true_mode=max_ratio=2.0",  # a float, though 2 is written
    ]
    assert len(keys) == 6
    plain, far, wide = space.layers[0].candidates.values()
    assert parameters_of(plain) == {"dilation": 1, "ratio": 1, "is_wide": False, "mode": "mean"}
    assert parameters_of(wide) == {"dilation": 1, "ratio": 2.0, "is_wide": True, "mode": "max"}
    assert block_of(far).dilation == 2  # type: ignore[attr-defined]
    assert all(OpSpec.from_key(spec.key()) == spec for spec in (plain, far, wide))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("dilation = 2", "dilation = 5", r"line 10: candidates.far: dilation must be between 1 and 4, not 5"),
        ("dilation = 2", "dilation = 2.5", r"line 10: candidates.far: dilation must be a whole number, not 2.5"),
        ("dilation = 2", "dilation = true", r"line 10: candidates.far: dilation must be of type int, not True"),
        ("dilation = 2", "dilation = [2]", r"line 10: candidates.far: dilation must be of type int, not \[2\]"),
        ("is_wide = true", "is_wide = 1", r"line 11: candidates.wide: is_wide must be of type bool, not 1"),
        ('"max"', '"sum"', r"line 11: candidates.wide: mode must be one of mean, max, not sum"),
        ("ratio = 2", "ratio = 0", r"line 11: candidates.wide: ratio must be a positive number, not 0"),
        ("dilation = 2", "dilatoin = 2", r"block 'own' has no parameter dilatoin; .* Did you mean 'dilation'"),
        ("dilation = 2", "channels = 2", r"candidates.far: block 'own' has no parameter channels"),
        ('"own", dilation = 2', '"conv", dilation = 2', r"block 'conv' has no parameter dilation; it has none"),
    ],
)
def test_a_wrong_parameter_is_named_with_its_line(
    old: str, new: str, message: str, own_block: str, tmp_path: Path
) -> None:
    assert old in SPACE
    (tmp_path / "mine.toml").write_text(SPACE.replace(old, new, 1))
    with pytest.raises(SpaceError, match=message):
        load_space(str(tmp_path / "mine.toml"))


def test_a_network_of_its_own_keeps_them_in_its_file(space: Space, tmp_path: Path) -> None:
    listing = scale(space, space.all_specs(("wide", "far")), width=2)
    network = Architecture(name="mine", network=listing)
    assert network.choices == ("k1_e1_is_wideTrue_modemax_ratio2.0", "k1_e1_dilation2")
    network.save(tmp_path / "mine.json")
    assert load_architecture(str(tmp_path / "mine.json")) == network
    assert [spec.key() for spec in network.specs()][1:3] == [
        "own_in16x8x8_out16_k1_s1_e1_g1_relu_is_wide=true_mode=max_ratio=2.0",
        "own_in16x8x8_out16_k1_s1_e1_g1_relu_dilation=2",
    ]
    text = (tmp_path / "mine.json").read_text()
    (tmp_path / "mine.json").write_text(text.replace('"dilation": 2', '"dilation": 9'))
    with pytest.raises(FbError, match=r"mine.json: network.layers.1: dilation must be between 1 and 4, not 9"):
        load_architecture(str(tmp_path / "mine.json"))


def test_an_operator_has_one_form(own_block: str) -> None:
    assert own_parameters("own", {"ratio": 1, "dilation": 3}) == (("dilation", 3),)
    assert block_of(OpSpec("own", 8, 8, 8, 8, parameters=(("ratio", 2.0),)))
    for parameters in ((("dilation", 1),), (("ratio", 2),)):
        with pytest.raises(SpecError, match="without those at their default, not"):
            block_of(OpSpec("own", 8, 8, 8, 8, parameters=parameters))
