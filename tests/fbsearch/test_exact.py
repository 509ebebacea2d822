"""Selection against brute force, and in the published space: exact, within the range, and in a moment."""

import itertools
import math
import random
import time
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fblut.table import Lut
from fbsearch.beyond.exact import most_probable, reachable
from fbsearch.costs import COSTS, AdditiveCost
from fbspace.network import count_spec
from fbspace.space import Space, load_space

Table = list[list[float]]


def additive(micro: Space, fixed: float, layers: Table) -> AdditiveCost:
    cost = AdditiveCost(micro, lambda spec: 0.0, "µs")
    cost.fixed, cost.layers = fixed, [torch.tensor(layer, dtype=torch.float64) for layer in layers]
    return cost


def random_log_p(layers: Sequence[Sequence[float]], scale: float, seed: int) -> Table:
    generator = random.Random(seed)
    thetas = [torch.tensor([generator.gauss(0, scale) for _ in layer], dtype=torch.float64) for layer in layers]
    return [torch.log_softmax(theta, 0).tolist() for theta in thetas]


def total(table: Table, choices: tuple[int, ...]) -> float:
    return math.fsum(row[choice] for row, choice in zip(table, choices, strict=True))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    layers=st.lists(st.lists(st.integers(0, 400), min_size=1, max_size=4), min_size=1, max_size=5),
    scale=st.sampled_from([0.0, 0.1, 1.0, 10.0]),
    seed=st.integers(0, 99),
    high=st.integers(0, 2000),
    width=st.sampled_from([0, 1, 30, 2000]),
    count=st.integers(1, 9),
)
def test_no_network_in_the_range_is_more_probable(
    micro: Space, layers: list[list[int]], scale: float, seed: int, high: int, width: int, count: int
) -> None:
    costs = [[value / 10 for value in layer] for layer in layers]  # decimals that floats only come near
    log_p = random_log_p(costs, scale, seed)
    found = most_probable(log_p, additive(micro, 0.3, costs), (high - width) / 10, high / 10, count)
    within = [
        choices
        for choices in itertools.product(*(range(len(layer)) for layer in layers))
        if high - width <= 3 + sum(layer[choice] for layer, choice in zip(layers, choices, strict=True)) <= high
    ]
    assert set(found) <= set(within)
    assert len(set(found)) == len(found) == min(count, len(within))
    best = sorted((total(log_p, choices) for choices in within), reverse=True)
    assert [total(log_p, choices) for choices in found] == pytest.approx(best[: len(found)], abs=1e-8)


@pytest.mark.parametrize("scale", [0.0, 0.3, 3.0])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.98])
def test_the_published_space_takes_less_than_a_second(scale: float, share: float) -> None:
    space = load_space("fbnet")
    cost = AdditiveCost(space, lambda spec: 8.01 + 59.7e-6 * count_spec(spec).macs, "µs")
    least, greatest = reachable(cost)
    target = least + share * (greatest - least)
    log_p = random_log_p([layer.tolist() for layer in cost.layers], scale, seed=1)
    start = time.perf_counter()
    found = most_probable(log_p, cost, 0.97 * target, target, 7)
    assert time.perf_counter() - start < 1
    assert len(set(found)) == 7
    for choices in found:
        latency = cost.fixed + total([layer.tolist() for layer in cost.layers], choices)
        assert 0.97 * target <= latency <= target


def test_where_nothing_binds_the_most_probable_candidate_of_every_layer_is_chosen(micro: Space) -> None:
    log_p = random_log_p([[0] * 9] * 22, 1.0, seed=2)
    cost = additive(micro, 1.0, [[float(i) for i in range(9)]] * 22)
    assert most_probable(log_p, cost, 0, 1e9) == [tuple(max(range(9), key=row.__getitem__) for row in log_p)]


def test_reachable_is_the_cheapest_and_the_dearest_network(micro: Space, micro_lut: Lut) -> None:
    names = [list(layer.candidates) for layer in micro.layers]
    latencies = [micro_lut.predict_us(micro.specs(choices)) for choices in itertools.product(*names)]
    assert reachable(COSTS.load("lut").build(micro, micro_lut)) == pytest.approx((min(latencies), max(latencies)))  # type: ignore[arg-type]
