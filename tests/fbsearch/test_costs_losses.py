"""Costs against sums of table rows, losses against the formula worked by hand."""

import math

import pytest
import torch

from fblut.table import Lut
from fbsearch.costs import COSTS
from fbsearch.losses import LOSSES
from fbsearch.theta import one_hot
from fbspace.architecture import Architecture
from fbspace.network import count_architecture
from fbspace.space import Space


@pytest.mark.parametrize("choices", [(0, 0), (1, 0), (2, 2), (1, 2)])
def test_expected_latency_of_one_network_is_the_sum_of_its_rows(
    choices: tuple[int, int], micro: Space, micro_lut: Lut
) -> None:
    names = [list(micro.layers[0].candidates)[choice] for choice in choices]
    cost = COSTS.load("lut").build(micro, micro_lut)([one_hot(choice, 3) for choice in choices])
    rows = [micro_lut.rows[spec.key()].latency_us or 0 for spec in micro.specs(names)]
    assert cost.item() == pytest.approx(sum(rows), rel=1e-12)


def test_expected_latency_contains_what_every_network_costs(micro: Space, micro_lut: Lut) -> None:
    m = [one_hot(0, 3)] * 2
    with_fixed = Lut(micro_lut.metadata.model_copy(update={"network_us": 123.0}), micro_lut.rows)
    costs = [COSTS.load("lut").build(micro, lut)(m).item() for lut in (micro_lut, with_fixed)]
    assert costs[1] - costs[0] == pytest.approx(123)


def test_expected_latency_is_linear_in_the_weights(micro: Space, micro_lut: Lut) -> None:
    cost = COSTS.load("lut").build(micro, micro_lut)
    a, b = [one_hot(0, 3)] * 2, [one_hot(1, 3), one_hot(2, 3)]
    mixed = cost([0.25 * x + 0.75 * y for x, y in zip(a, b, strict=True)])
    assert mixed.item() == pytest.approx(0.25 * cost(a).item() + 0.75 * cost(b).item(), rel=1e-12)


def test_gradient_of_expected_latency_is_the_row(micro: Space, micro_lut: Lut) -> None:
    m = [torch.full((3,), 1 / 3, requires_grad=True) for _ in micro.layers]
    COSTS.load("lut").build(micro, micro_lut)(m).backward()
    rows = [micro_lut.latency_us(spec) for spec in micro.layers[1].candidates.values()]
    assert m[1].grad is not None
    assert m[1].grad.tolist() == pytest.approx(rows)


def test_macs_are_those_of_the_network(micro: Space, micro_lut: Lut, micro_file: object) -> None:
    cost = COSTS.load("macs").build(micro, micro_lut)([one_hot(1, 3), one_hot(0, 3)])
    network = Architecture(name="x", space=str(micro_file), choices=("k5_e3", "k3_e1"))
    assert cost.item() == count_architecture(network).macs


def test_the_papers_loss() -> None:
    cross_entropy = torch.tensor(2.3, dtype=torch.float64, requires_grad=True)
    cost = torch.tensor(20_000.0, dtype=torch.float64, requires_grad=True)
    value = LOSSES.load("paper").weigh(cross_entropy, cost, math.nan)
    assert value.item() == pytest.approx(2.3 * 0.2 * math.log(20_000) ** 0.6, rel=1e-12)
    value.backward()
    # d/dLAT of CE α log(LAT)^β = CE α β log(LAT)^(β−1) / LAT
    assert cost.grad is not None
    assert cost.grad.item() == pytest.approx(2.3 * 0.2 * 0.6 * math.log(20_000) ** -0.4 / 20_000, rel=1e-12)
    assert cross_entropy.grad is not None
    assert cross_entropy.grad.item() == pytest.approx(0.2 * math.log(20_000) ** 0.6, rel=1e-12)


def test_the_product_loss() -> None:
    loss = LOSSES.load("product", alpha=0.3, beta=0.5)
    value = loss.weigh(torch.tensor(2.0), torch.tensor(math.e**7, dtype=torch.float64), math.nan)
    assert value.item() == pytest.approx(2 * 0.3 * 0.5 * 7)


def test_parameters_are_those_of_the_network(micro: Space, micro_lut: Lut, micro_file: object) -> None:
    cost = COSTS.load("params").build(micro, micro_lut)([one_hot(1, 3), one_hot(0, 3)])
    network = Architecture(name="x", space=str(micro_file), choices=("k5_e3", "k3_e1"))
    assert cost.item() == count_architecture(network).parameters


def test_the_additive_loss() -> None:
    loss = LOSSES.load("additive", latency_weight=0.5)
    value = loss.weigh(torch.tensor(2.0), torch.tensor(30_000.0, dtype=torch.float64), 20_000.0)
    assert value.item() == pytest.approx(2 + 0.5 * 1.5)


@pytest.mark.parametrize(("latency_us", "sign"), [(10_000, -1), (40_000, 1)])
def test_the_target_loss_pushes_up_as_well_as_down(latency_us: float, sign: int) -> None:
    loss = LOSSES.load("target", latency_weight=0.5)
    cost = torch.tensor(latency_us, dtype=torch.float64, requires_grad=True)
    value = loss.weigh(torch.tensor(2.0), cost, 20_000.0)
    assert value.item() == pytest.approx(2 + 0.5 * math.log(2) ** 2)
    value.backward()
    assert cost.grad is not None
    assert cost.grad.item() == pytest.approx(sign * 0.5 * 2 * math.log(2) / latency_us)
