"""The contract of every format found: what it provides, what it refuses, and that its files compute what torch does.

`make test` runs a sample: of the operators one of every kind, in which every size and number of channels occurs, in
one format in turn; of the published networks every second in one format. `make test-full` runs all in all.
"""

import functools
import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fbexport.errors import ExportError
from fbexport.export import export_network, export_spec
from fbexport.formats import FORMATS, format_of, load_format
from fbexport.runtimes import runtime_of
from fbspace.architecture import ZOO, load_architecture
from fbspace.blocks import build_block, is_identity
from fbspace.opspec import OpSpec
from fbspace.space import load_space
from fbspace.weights import load_network, randomize
from peers.installed import FORMATS_HERE

OPERATORS = load_space("fbnet").operators()
RESIDUAL = OpSpec("ir", 24, 24, 9, 9, kernel=5, expansion=3)
SPECIAL = {
    "hswish": replace(RESIDUAL, activation="hswish"),
    "squeeze-excite": replace(RESIDUAL, squeeze_excite=True),
    "hswish-squeeze-excite-stride-2": replace(RESIDUAL, activation="hswish", squeeze_excite=True, stride=2),
    "grouped-stride-2-odd": replace(RESIDUAL, groups=2, stride=2, height=7, width=11),
    "stride-2-even": replace(RESIDUAL, stride=2, height=8, width=8, out_channels=32),
    "stride-3": replace(RESIDUAL, stride=3, height=11, width=10),
    "fractional-expansion": replace(RESIDUAL, expansion=1.75),
    "single-channel": OpSpec("conv", 1, 8, 9, 9, kernel=3, stride=2),
    "single-pixel": OpSpec("ir", 8, 8, 1, 1, kernel=5, expansion=2),
    "skip-stride-2-odd": OpSpec("skip", 16, 24, 7, 7, stride=2),
    "conv-without-activation": OpSpec("conv", 8, 8, 5, 5, kernel=3, activation="none"),
    "grouped-conv": OpSpec("conv", 12, 24, 6, 6, kernel=3, groups=3, activation="hswish"),
    "squeeze-by-hswish": replace(RESIDUAL, squeeze_excite=True, parameters=(("squeeze_activation", "hswish"),)),
    "grouped-mbconv": replace(RESIDUAL, kind="mbconv", groups=2),
    "grouped-mbconv-without-first": replace(RESIDUAL, kind="mbconv", groups=2, expansion=1),
    "pool-without-bias": OpSpec("pool", 8, 12, 5, 4, activation="hswish", parameters=(("bias", False),)),
    "tiny-classifier": OpSpec("classifier", 8, 10, 5, 4, activation="none"),
}


def kind_of(spec):
    """Return the operator without what says how large it is."""
    adds = spec.stride == 1 and spec.in_channels == spec.out_channels
    return replace(spec, in_channels=spec.groups, out_channels=spec.groups, height=1, width=1), adds


def sizes_of(spec):
    return {("pixels", spec.height), ("in", spec.in_channels), ("out", spec.out_channels)}


def sample_of(operators):
    """Return an operator of every kind, each with many sizes that those before it lack, and one for each size left."""
    kinds, seen, chosen = {}, set(), []
    for spec in operators:
        kinds.setdefault(kind_of(spec), []).append(spec)
    for alike in kinds.values():
        chosen.append(max(alike, key=lambda spec: len(sizes_of(spec) - seen)))
        seen |= sizes_of(chosen[-1])
    for spec in operators:
        if sizes_of(spec) - seen:
            chosen.append(spec)
            seen |= sizes_of(spec)
    return chosen


SAMPLE = sample_of(OPERATORS)


def sampled(values, is_chosen):
    """Return parameters, those that are not chosen marked as left to `make test-full`."""
    return [pytest.param(*value, marks=() if is_chosen(*value) else pytest.mark.full) for value in values]


NETWORKS = sampled(
    itertools.product(FORMATS_HERE, ZOO.names()),
    lambda name, network: ZOO.names().index(network) % (2 * len(FORMATS_HERE)) == 2 * FORMATS_HERE.index(name),
)


@functools.lru_cache(maxsize=64)
def module_of(spec, seed=0):
    """Return an operator's module, the same for all formats: torch computes it once."""
    return randomize(build_block(spec), seed)


@pytest.fixture(params=FORMATS.names())
def name(request):
    return request.param


def test_has_a_suffix_and_float32_and_a_runtime_that_runs_it(name):
    found = load_format(name)
    assert found.suffix.startswith(".")
    assert found.precisions[0] == "float32"
    assert format_of(runtime_of(name)) == name


def test_suffixes_tell_formats_apart():
    assert len({load_format(n).suffix for n in FORMATS.names()}) == len(FORMATS.names())


def test_refuses_an_unknown_precision(name):
    with pytest.raises(
        ExportError, match=r"has no precision 'int3', which no format knows; it can be written in float32"
    ):
        export_spec(RESIDUAL, name, precision="int3")


def test_refuses_an_identity(name):
    with pytest.raises(ExportError, match="identity"):
        export_spec(OpSpec("skip", 8, 8, 4, 4), name)


def test_same_arguments_give_the_same_bytes(name):
    def from_elsewhere():
        return export_spec(RESIDUAL, name)

    first = export_spec(RESIDUAL, name)
    export_spec(OPERATORS[0], name)
    assert from_elsewhere() == first
    assert export_spec(RESIDUAL, name, seed=1) != first


def test_file_holds_no_path_of_this_machine(name):
    content = export_spec(RESIDUAL, name)
    assert b"site-packages" not in content
    assert b"fbprof" not in content


def test_the_sample_has_every_size_and_number_of_channels():
    assert len(SAMPLE) < len(OPERATORS) / 2
    assert {kind_of(spec) for spec in SAMPLE} == {kind_of(spec) for spec in OPERATORS}
    assert set().union(*map(sizes_of, SAMPLE)) == set().union(*map(sizes_of, OPERATORS))


@pytest.mark.parametrize(
    ("name", "spec"),
    sampled(
        itertools.product(FORMATS.names(), OPERATORS),
        lambda name, spec: spec in SAMPLE and (SAMPLE.index(spec) + FORMATS.names().index(name)) % 5 == 0,
    ),
)
def test_every_operator_of_the_space_equals_torch(name, spec, assert_equals_torch):
    assert_equals_torch(name, export_spec(spec, name), module_of(spec), spec.input_shape)


@pytest.mark.parametrize("spec", SAMPLE, ids=OpSpec.key)
def test_float16_is_float32_but_for_the_rounding_of_weights(spec, run_model):
    """Weights are rounded to 11 bits, so that a sum of n products is off by 2^-12 of one for each, at random."""
    for name in FORMATS_HERE:
        if "float16" in load_format(name).precisions:
            x = torch.randn(spec.input_shape, generator=torch.Generator().manual_seed(7)).numpy()
            exact, half = (run_model(name, export_spec(spec, name, each), x) for each in ("float32", "float16"))
            assert 0 < np.abs(half - exact).max() <= 5e-3 * np.abs(exact).max()


@pytest.mark.parametrize("spec", SPECIAL.values(), ids=SPECIAL.keys())
def test_special_operators_equal_torch(name, spec, assert_equals_torch):
    assert_equals_torch(name, export_spec(spec, name, seed=3), module_of(spec, 3), spec.input_shape)


@pytest.mark.parametrize(("name", "network"), NETWORKS)
def test_published_networks_equal_torch(name, network, assert_equals_torch):
    architecture = load_architecture(network)
    ill = network in ("fbnetv2-f4", "fbnetv2-l1", "fbnetv2-l2")  # with 0, torch itself is 1e-4 to 6e-4 from float64
    seed = 2 if ill else 0
    try:
        content = export_network(architecture, name, seed=seed)
    except ExportError as error:
        if network != "ghostnet-100" or f"{name!r} cannot write operator Concat" not in str(error):
            raise
        pytest.skip(str(error))
    assert_equals_torch(name, content, load_network(architecture, seed=seed), architecture.load_space().input_shape)


@st.composite
def specs(draw):
    kind = draw(st.sampled_from(["ir", "ir", "mbconv", "conv", "skip", "pool", "classifier"]))
    groups = draw(st.sampled_from([1, 1, 2, 4]))
    channels = st.integers(1, 6).map(lambda n: n * groups)
    size = st.integers(1, 12)
    spec = OpSpec(
        kind,
        draw(channels),
        draw(channels),
        draw(size),
        draw(size),
        kernel=draw(st.sampled_from([1, 3, 5, 7])),
        stride=draw(st.integers(1, 3)),
        expansion=draw(st.sampled_from([1, 3, 6])),
        groups=groups,
        activation=draw(st.sampled_from(["relu", "relu6", "hswish"])),
        squeeze_excite=draw(st.booleans()),
    )
    return replace(spec, out_channels=spec.out_channels + groups) if is_identity(spec) else spec


@settings(max_examples=25, deadline=None)
@given(spec=specs(), seed=st.integers(0, 9))
def test_random_operators_equal_torch(assert_equals_torch, spec, seed):
    module = randomize(build_block(spec), seed)
    for each in FORMATS_HERE:
        assert_equals_torch(each, export_spec(spec, each, seed=seed), module, spec.input_shape, may_vanish=True)
