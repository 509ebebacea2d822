"""Subjects: their keys lead back to what they are, and a chain of operators computes what torch computes."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import nn

from fbprof.errors import JournalError
from fbprof.plan.subject import is_network_key, network, network_key, network_specs, operator
from fbspace.blocks import build_block, is_identity
from fbspace.errors import ArchitectureError
from fbspace.opspec import OpSpec
from fbspace.space import Space, load_space
from fbspace.weights import randomize

Array = NDArray[np.float32]
FORMATS = ["tflite", "onnx", "torchscript"]
SEED = 5
CHAIN = """
description = "three layers of one shape, then one of another"
input = { channels = 3, size = 16 }
classes = 4
head_channels = [16, 24]
stem = [{ kind = "conv", channels = 8, kernel = 3, stride = 2 }]
stages = [{ channels = 8, repeats = 3, stride = 1 }, { channels = 12, repeats = 1, stride = 2 }]
[candidates]
k3 = { kind = "ir", kernel = 3, expansion = 2 }
k5_g2 = { kind = "ir", kernel = 5, expansion = 2, groups = 2, activation = "hswish", squeeze_excite = true }
skip = { kind = "skip" }
"""
TWICE = ("k3", "k3", "k5_g2", "k5_g2")
"""The first two layers are the same operator; the last two are not, for their shapes differ."""


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Space:
    path = tmp_path_factory.mktemp("space") / "chain.toml"
    path.write_text(CHAIN)
    return load_space(str(path))


def chain_of(specs: tuple[OpSpec, ...]) -> nn.Sequential:
    return nn.Sequential(*(randomize(build_block(spec), SEED) for spec in specs)).eval()


def random_image(shape: tuple[int, int, int, int]) -> Array:
    x: Array = torch.randn(shape, generator=torch.Generator().manual_seed(1)).numpy()
    return x


def test_an_operator_is_named_by_its_key(space: Space) -> None:
    for spec in space.operators():
        subject = operator(spec)
        assert OpSpec.from_key(subject.key) == spec
        assert subject.specs == (spec,)
        assert subject.input_shape == spec.input_shape
        assert not is_network_key(subject.key)


@given(
    choices=st.lists(st.sampled_from(["k3", "k5_g2", "skip"]), min_size=4, max_size=4),
    head=st.sampled_from([None, 16, 24]),
)
def test_a_networks_key_leads_back_to_its_operators(space: Space, choices: list[str], head: int | None) -> None:
    subject = network(space, choices, head)
    assert is_network_key(subject.key)
    assert network_specs(subject.key, space) == list(subject.specs)
    assert list(subject.specs) == [spec for spec in space.all_specs(choices, head) if not is_identity(spec)]
    assert subject.specs[-2].out_channels == (head or 16)
    assert subject.input_shape == (1, 3, 16, 16)


def test_keys_are_as_journals_hold_them() -> None:
    assert network_key(["k3_e1", "skip", "k5_e6"]) == "network:k3_e1,skip,k5_e6"
    assert network_key(["k3_e1", "skip"], 1504) == "network:k3_e1,skip@1504"


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("network:k3,k3,k7,k3", "has no candidate 'k7'"),
        ("network:k3,k3,k3", "has 4 layers, but 3 are chosen"),
        ("network:", "has 4 layers, but 1 are chosen"),
        ("network:k3,k3,k3,k3@32", "has no head of 32 channels"),
        ("network:k3,k3,k3,k3@wide", "invalid literal"),
    ],
)
def test_a_key_of_another_space_is_a_journal_error_with_the_reason(space: Space, key: str, reason: str) -> None:
    with pytest.raises(JournalError, match=f"{key} is no network of space chain: .*{reason}"):
        network_specs(key, space)


def test_a_network_that_does_not_fit_the_space_is_refused(space: Space) -> None:
    with pytest.raises(ArchitectureError, match="'k7'"):
        network(space, ["k7"] * 4)


@pytest.mark.parametrize("format_name", FORMATS)
@pytest.mark.parametrize("choices", [TWICE, ("skip", "k3", "skip", "skip")], ids=["twice", "skips"])
def test_a_network_computes_what_torch_computes(
    space: Space, format_name: str, choices: tuple[str, ...], assert_equals_torch: Callable[..., None]
) -> None:
    subject = network(space, choices)
    content = subject.export(format_name, "float32", SEED)
    assert_equals_torch(format_name, content, chain_of(subject.specs), subject.input_shape)


@pytest.mark.parametrize("format_name", FORMATS)
def test_an_operator_has_the_same_weights_alone_and_in_a_network(
    space: Space, format_name: str, run_model: Callable[[str, bytes, Array], Array]
) -> None:
    """The network's output is what its operators, each a model file of its own, give one after the other."""
    subject = network(space, TWICE)
    assert len(subject.specs) == 1 + len(set(subject.specs))
    x = image = random_image(subject.input_shape)
    whole = run_model(format_name, subject.export(format_name, "float32", SEED), x)
    alone = {spec: operator(spec).export(format_name, "float32", SEED) for spec in subject.specs}
    for spec in subject.specs:
        x = np.ascontiguousarray(run_model(format_name, alone[spec], x))
    assert np.abs(whole).max() > 0
    assert np.abs(whole - x).max() <= 1e-4 * np.abs(whole).max()
    other = run_model(format_name, subject.export(format_name, "float32", SEED + 1), image)
    assert np.abs(whole - other).max() > 1e-2 * np.abs(whole).max()


@pytest.mark.parametrize("format_name", FORMATS)
def test_the_same_subject_gives_the_same_bytes(space: Space, format_name: str) -> None:
    subject = network(space, TWICE, 24)
    assert subject.export(format_name, "float32", 0) == subject.export(format_name, "float32", 0)
