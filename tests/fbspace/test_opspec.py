"""OpSpec keys: every spec survives the round trip, and nothing else parses."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fbspace.blocks import block_of, is_identity
from fbspace.errors import SpecError
from fbspace.opspec import ACTIVATIONS, OpSpec

SIZES = st.integers(1, 512)
PARAMETERS = st.fixed_dictionaries(
    {},
    optional={
        "dilation": st.integers(-9, 10**20),
        "is_wide": st.booleans(),
        "mode": st.from_regex(r"[a-z][a-z0-9.-]{0,8}", fullmatch=True).filter(lambda word: word not in NOT_WORDS),
        "split_ratio": st.floats(1e-30, 1e30),
    },
)
NOT_WORDS = ("true", "false", "null")


@st.composite
def specs(draw: st.DrawFn) -> OpSpec:
    groups = draw(st.integers(1, 4))
    return OpSpec(
        kind=draw(st.from_regex(r"[a-z][a-z0-9]{0,8}", fullmatch=True)),
        in_channels=groups * draw(SIZES),
        out_channels=groups * draw(SIZES),
        height=draw(st.integers(1, 64)),
        width=draw(st.integers(1, 64)),
        kernel=draw(st.sampled_from([1, 3, 5, 7])),
        stride=draw(st.integers(1, 4)),
        expansion=draw(st.integers(1, 99_999)) / 10_000,
        groups=groups,
        activation=draw(st.sampled_from(ACTIVATIONS)),
        squeeze_excite=draw(st.booleans()),
        parameters=tuple(sorted(draw(PARAMETERS).items())),
    )


@given(specs())
def test_a_key_parses_back_to_the_same_spec(spec: OpSpec) -> None:
    assert OpSpec.from_key(spec.key()) == spec


@given(specs(), specs())
def test_different_specs_have_different_keys(a: OpSpec, b: OpSpec) -> None:
    assert (a == b) == (a.key() == b.key())


def test_a_key_reads_like_its_spec() -> None:
    spec = OpSpec("ir", 24, 32, 56, 56, kernel=5, stride=2, expansion=6)
    assert spec.key() == "ir_in24x56x56_out32_k5_s2_e6_g1_relu"
    assert block_of(spec).output_size(spec) == (28, 28)
    assert spec.input_shape == (1, 24, 56, 56)
    own = replace(spec, squeeze_excite=True, parameters=(("is_wide", True), ("mode", "max"), ("split_ratio", 2.0)))
    assert own.key() == "ir_in24x56x56_out32_k5_s2_e6_g1_relu_se_is_wide=true_mode=max_split_ratio=2.0"


def test_runs_are_known_by_the_text_of_their_operators() -> None:
    """A folder of a search or training is continued if the hash of this is the same: it holds for older ones."""
    spec = OpSpec("ir", 24, 32, 56, 56, kernel=5, stride=2, expansion=6)
    text = (
        "OpSpec(kind='ir', in_channels=24, out_channels=32, height=56, width=56, kernel=5, stride=2, expansion=6, "
        "groups=1, activation='relu', squeeze_excite=False)"
    )
    assert repr(spec) == text
    assert repr(replace(spec, parameters=(("dilation", 2),))) == text[:-1] + ", parameters=(('dilation', 2),))"


@pytest.mark.parametrize(
    "key",
    [
        "",
        "ir",
        "ir_in24x56x56_out32_k5_s2_e6_g1",
        "ir_in024x56x56_out32_k5_s2_e6_g1_relu",  # not canonical
        "ir_in24x56x56_out32_k5_s2_e6.0_g1_relu",  # not canonical
        "ir_in24x56x56_out32_k5_s2_e6_g1_relu_se_se",
        "ir_in24x56x56_out32_k5_s2_e6_g1_mish",
        "ir_in24x56x56_out32_k4_s2_e6_g1_relu",
        "ir_in24x56x56_out32_k5_s0_e6_g1_relu",
        "ir_in25x56x56_out32_k5_s2_e6_g2_relu",
        " ir_in24x56x56_out32_k5_s2_e6_g1_relu\n",
        "ir_in24x56x56_out32_k5_s2_e6_g1_relu_ratio=0.50",  # not canonical
        "ir_in24x56x56_out32_k5_s2_e6_g1_relu_ratio=1_dilation=2",  # not sorted
        "ir_in24x56x56_out32_k5_s2_e6_g1_relu_dilation=",
        "ir_in24x56x56_out32_k5_s2_e6_g1_relu_mode=a,b",
        "ir_in24x56x56_out32_k5_s2_e6_g1_relu_dilation=2_se",
    ],
)
def test_a_bad_key_is_refused(key: str) -> None:
    with pytest.raises(SpecError):
        OpSpec.from_key(key)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kernel": 4}, "kernel must be odd, not 4"),
        ({"stride": 0}, "stride must be at least 1, not 0"),
        ({"groups": 5}, "groups=5 must divide"),
        ({"activation": "mish"}, "one of none, relu, relu6, hswish, silu, gelu"),
        ({"expansion": 1.23456}, "at most 4 decimals"),
        ({"expansion": 0}, "expansion must be positive"),
        ({"parameters": (("mode", "a b"),)}, "cannot stand in a key"),
        ({"parameters": (("mode", "12"),)}, "cannot stand in a key"),
        ({"parameters": (("mode", "a_se"),)}, "cannot stand in a key"),
        ({"parameters": (("b", 1), ("a", 1))}, "sorted by name"),
    ],
)
def test_numbers_that_describe_no_operator_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        OpSpec(**{"kind": "ir", "in_channels": 24, "out_channels": 32, "height": 8, "width": 8, **change})


def test_only_a_skip_that_changes_nothing_is_an_identity() -> None:
    assert is_identity(OpSpec("skip", 24, 24, 8, 8))
    assert not is_identity(OpSpec("skip", 24, 32, 8, 8))
    assert not is_identity(OpSpec("skip", 24, 24, 8, 8, stride=2))
    assert not is_identity(OpSpec("ir", 24, 24, 8, 8))
