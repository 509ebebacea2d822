"""The supernet of masks: networks taken out, costs that are those of the network, the exact choice under a target."""

import itertools
import math
import random
from pathlib import Path

import pytest
import torch
from torch import Tensor

from fbsearch.beyond.chain import ChainCost, expected_cost, sum_over
from fbsearch.beyond.exact import most_probable, reachable
from fbsearch.beyond.target import tilt
from fbsearch.costs import COSTS
from fbsearch.fbnetv2.supernet import MaskedNet
from fbsearch.strategies import STRATEGIES
from fbsearch.theta import one_hot, softmax
from fbspace.architecture import choose
from fbspace.draw import draw_networks
from fbspace.network import build_network, count, count_spec
from fbspace.space import Space, load_space

MICRO = """
description = "two layers that decide on everything"
input = { channels = 3, size = [6, 8] }
classes = 10
head_channels = [16]
stem = [{ kind = "conv", channels = 8, kernel = 3, stride = 1 }]
expansions = [1, 2]
stages = [{ channels = [4, 8], repeats = 1, stride = 1 }, { channels = [8, 12, 16], repeats = 1, stride = 2 }]
[candidates]
k3 = { kind = "mbconv", kernel = 3, activation = "hswish", squeeze_excite = true }
k5 = { kind = "mbconv", kernel = 5 }
skip = { kind = "skip", activation = "none" }
"""


ONE_WIDTH = MICRO.replace(
    "{ channels = [8, 12, 16], repeats = 1, stride = 2 }",
    "{ channels = [8, 12, 16], repeats = 2, stride = 2, one_width = true }",
)
"""A layer more, which keeps the width of the one before it."""


@pytest.fixture(scope="module", params=[MICRO, ONE_WIDTH], ids=["each_its_width", "one_width"])
def micro_file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("space") / "masked.toml"
    path.write_text(request.param)
    return path


@pytest.fixture(scope="module")
def micro(micro_file: Path) -> Space:
    return load_space(str(micro_file))


@pytest.fixture(scope="module")
def tiny() -> Space:
    return load_space("fbnetv2-tiny")


def every(space: Space) -> list[tuple[int, ...]]:
    return list(itertools.product(*(range(len(d.options)) for d in space.decisions)))


def names(space: Space, choices: tuple[int, ...]) -> list[str]:
    return [d.options[i] for d, i in zip(space.decisions, choices, strict=True)]


def weights(space: Space, choices: tuple[int, ...]) -> list[Tensor]:
    return [one_hot(i, len(d.options)) for d, i in zip(space.decisions, choices, strict=True)]


def random_theta(space: Space, seed: int, scale: float = 1.0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [scale * torch.randn(len(d.options), generator=generator) for d in space.decisions]


def test_the_decisions_of_a_space(micro: Space) -> None:
    kept = len(micro.layers) == 3
    assert [(d.name, d.options) for d in micro.decisions] == [
        ("size", ("6", "8")),
        ("layer_01", ("k3", "k5", "skip")),
        ("layer_01_expansion", ("1", "2")),
        ("layer_01_width", ("4", "8")),
        ("layer_02", ("k3", "k5", "skip")),
        ("layer_02_expansion", ("1", "2")),
        ("layer_02_width", ("8", "12", "16")),
        *([("layer_03", ("k3", "k5", "skip")), ("layer_03_expansion", ("1", "2"))] if kept else []),
    ]
    last = ["k5", "2"] if kept else []
    keys = [spec.key() for spec in micro.all_specs(["6", "k5", "2", "4", "skip", "2", "12", *last])]
    assert keys == [
        "conv_in3x6x6_out8_k3_s1_e1_g1_relu",
        "mbconv_in8x6x6_out4_k5_s1_e2_g1_relu",
        "skip_in4x6x6_out12_k1_s2_e1_g1_none",
        *(["mbconv_in12x3x3_out12_k5_s1_e2_g1_relu"] if kept else []),
        "conv_in12x3x3_out16_k1_s1_e1_g1_relu",
        "classifier_in16x3x3_out10_k1_s1_e1_g1_none",
    ]


def test_its_operators_are_those_of_its_networks(micro: Space) -> None:
    found = {spec for choices in every(micro) for spec in micro.specs(names(micro, choices))}
    assert set(micro.operators()) == found


def test_a_network_taken_out_is_the_supernet_at_one_hot(micro: Space) -> None:
    net, strategy = MaskedNet.of(micro, 7, seed=0), STRATEGIES.load("mixture")
    x = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    for choices in random.Random(0).sample(every(micro), 20):
        expected = net(x, weights(micro, choices), strategy)
        torch.testing.assert_close(net.taken_out(choices)(x), expected, rtol=1e-5, atol=1e-5)
        for shares in (False, True):  # the first filters alone, and masks
            net.shares_norms = shares
            torch.testing.assert_close(net(x, weights(micro, choices), STRATEGIES.load("single-path")), expected)


def test_a_soft_size_is_the_sum_of_networks_where_one_layer_follows(micro: Space) -> None:
    """Sizes of the logits alone: with one-hot sizes the head sees each side by itself."""
    net = MaskedNet.of(micro, 7, seed=0)
    x = torch.randn(6, 3, 8, 8)
    maps = torch.randn(6, 16, 4, 4)
    g = torch.tensor([0.3, 0.7])
    small = net.head(maps[:, :, torch.tensor([0, 1, 2])][:, :, :, torch.tensor([0, 1, 2])])
    torch.testing.assert_close(net.at_sizes(net.head, maps, g, -1), 0.3 * small + 0.7 * net.head(maps))
    assert net.at_sizes(net.stem, x, one_hot(0, 2), 0).shape == (6, 8, 8, 8)


@pytest.mark.parametrize("what", ["macs", "params"])
@pytest.mark.parametrize("name", ["micro", "fbnetv2-tiny"])
def test_a_cost_at_one_hot_is_counted_in_the_network_derived(
    name: str, what: str, micro: Space, micro_file: Path
) -> None:
    space = micro if name == "micro" else load_space(name)
    cost = expected_cost(COSTS.load(what), space, None)  # type: ignore[arg-type]  # it looks at no table
    for choices in draw_networks(space, 8, "cost"):
        network = choose(str(micro_file) if name == "micro" else name, choices, "x")
        found = network.load_space()
        counted = count(build_network(network), found.input_shape)
        picked = [d.options.index(c) for d, c in zip(space.decisions, choices, strict=True)]
        expected = counted.macs if what == "macs" else counted.parameters
        assert float(cost(weights(space, tuple(picked)))) == expected


def test_the_formula_of_a_block_counts_what_the_module_has(tiny: Space) -> None:
    from fbspace.blocks import build_block

    for spec in random.Random(1).sample(tiny.operators(), 60):
        with torch.device("meta"):
            assert count(build_block(spec), spec.input_shape) == count_spec(spec)


def test_a_cost_is_the_expectation_over_all_networks(micro: Space) -> None:
    cost = sum_over(micro, lambda spec: 8.5 + count_spec(spec).macs ** 0.5, "µs", network=11.0)
    p = softmax([theta.double() for theta in random_theta(micro, 3)])
    expected = 0.0
    for choices in every(micro):
        probability = math.prod(float(p_d[i]) for p_d, i in zip(p, choices, strict=True))
        specs = micro.all_specs(names(micro, choices))
        expected += probability * (11.0 + sum(8.5 + count_spec(spec).macs ** 0.5 for spec in specs))
    assert float(cost(p)) == pytest.approx(expected, rel=1e-12)


def test_its_gradient_is_that_of_finite_differences(micro: Space) -> None:
    cost = sum_over(micro, lambda spec: count_spec(spec).macs / 1e4, "MACs")
    theta = [t.double().requires_grad_() for t in random_theta(micro, 4)]
    assert torch.autograd.gradcheck(lambda *t: cost(softmax(list(t))), theta)


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.full) for seed in range(2, 6))])
def test_no_network_in_the_range_is_more_probable(micro: Space, seed: int) -> None:
    cost = sum_over(micro, lambda spec: round(8 + 60e-5 * count_spec(spec).macs, 2), "µs", network=1.5)
    assert isinstance(cost, ChainCost)
    log_p = [torch.log_softmax(t.double(), 0).tolist() for t in random_theta(micro, seed, scale=2)]
    costs = {choices: float(cost(weights(micro, choices))) for choices in every(micro)}
    least, greatest = reachable(cost)
    assert (least, greatest) == pytest.approx((min(costs.values()), max(costs.values())))
    high = least + 0.3 * (greatest - least)
    found = most_probable(log_p, cost, 0.97 * high, high, 5)
    total = {c: sum(row[i] for row, i in zip(log_p, c, strict=True)) for c in costs}
    within = sorted((c for c in costs if 0.97 * high <= costs[c] <= high), key=total.__getitem__, reverse=True)
    assert [total[c] for c in found] == pytest.approx([total[c] for c in within[:5]], abs=1e-8)
    assert all(0.97 * high - 1e-9 <= costs[c] <= high + 1e-9 for c in found)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_the_controller_brings_the_expected_cost_to_the_target(tiny: Space, share: float) -> None:
    cost = sum_over(tiny, lambda spec: 8 + 60e-6 * count_spec(spec).macs, "µs")
    least, greatest = reachable(cost)
    target = least + share * (greatest - least)
    theta = random_theta(tiny, 5)
    for _ in range(8):  # one step each: the cost is not linear, and is taken as its tangent
        tilt(theta, cost, target)
    assert float(cost(softmax(theta))) == pytest.approx(target, rel=0.002)
