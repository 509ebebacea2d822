"""The tilt onto a target against closed forms: met by the nearest distribution, and no preference changes."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fblut.table import Lut
from fbsearch.beyond.exact import reachable
from fbsearch.beyond.skip import hold_skip
from fbsearch.beyond.target import tilt
from fbsearch.costs import COSTS, AdditiveCost
from fbsearch.fbnet.objective import Objective
from fbsearch.fbnet.settings import Settings
from fbsearch.losses import LOSSES
from fbspace.space import Space


def costs(micro: Space, micro_lut: Lut) -> AdditiveCost:
    cost = COSTS.load("lut").build(micro, micro_lut)
    assert isinstance(cost, AdditiveCost)
    return cost


def expected(cost: AdditiveCost, theta: list[torch.Tensor]) -> float:
    return cost([torch.softmax(theta_l, dim=-1) for theta_l in theta]).item()


@given(share=st.floats(0.02, 0.98), logits=st.lists(st.floats(-4, 4), min_size=6, max_size=6))
def test_the_expected_cost_is_the_target_and_theta_changes_in_proportion_to_cost(
    micro: Space, micro_lut: Lut, share: float, logits: list[float]
) -> None:
    cost = costs(micro, micro_lut)
    least, greatest = reachable(cost)
    target = least + share * (greatest - least)
    before = [torch.tensor(logits[:3], dtype=torch.float64), torch.tensor(logits[3:], dtype=torch.float64)]
    theta = [theta_l.clone() for theta_l in before]
    multiplier = tilt(theta, cost, target)
    assert expected(cost, theta) == pytest.approx(target, rel=1e-5)
    for old, new, cost_l in zip(before, theta, cost.layers, strict=True):
        moved = (old - new) - (old - new)[0]
        torch.testing.assert_close(moved, multiplier * (cost_l - cost_l[0]) / target, atol=1e-9, rtol=1e-6)


def test_one_layer_of_two_candidates_in_closed_form(micro: Space, micro_lut: Lut) -> None:
    """With p = P(dear), E = cheap + p · (dear − cheap); p = e^−λ(dear−cheap)/T / (1 + the same) gives λ."""
    cost = costs(micro, micro_lut)
    cost.fixed, cost.layers = 10.0, [torch.tensor([5.0, 25.0], dtype=torch.float64)]
    theta = [torch.zeros(2, dtype=torch.float64)]
    multiplier = tilt(theta, cost, 20.0)  # p = 1/4
    assert multiplier == pytest.approx(math.log(3) * 20.0 / 20.0, rel=1e-6)
    torch.testing.assert_close(torch.softmax(theta[0], 0), torch.tensor([0.75, 0.25], dtype=torch.float64))


def test_a_target_out_of_reach_ends_with_the_nearest_network(micro: Space, micro_lut: Lut) -> None:
    cost = costs(micro, micro_lut)
    least, _ = reachable(cost)
    theta = [torch.zeros(3), torch.zeros(3)]
    tilt(theta, cost, 0.5 * least)
    assert expected(cost, theta) == pytest.approx(least, rel=1e-6)
    assert all(torch.isfinite(theta_l).all() for theta_l in theta)


@pytest.fixture
def objective(micro: Space, micro_lut: Lut) -> Objective:
    settings = Settings(space="micro", data="digits", loss="target")
    cost = costs(micro, micro_lut)
    least, greatest = reachable(cost)
    skips = [[False, False, True]] * 2
    return Objective("x", cost, 0.5 * (least + greatest), LOSSES.load("target"), skips, settings)


def test_the_target_is_approached_geometrically_and_then_held(objective: Objective) -> None:
    assert objective.target is not None
    seen = []
    for progress in (0.0, 0.25, 0.5, 0.75, 1.0):
        objective.tilt(progress)
        seen.append(objective.cost(objective.probabilities()).item())
    start = objective.start
    middle = math.sqrt(start * objective.target)
    assert seen == pytest.approx([start, middle, *[objective.target] * 3], rel=1e-5)


def test_a_loss_that_holds_no_target_leaves_theta_alone(objective: Objective) -> None:
    objective.loss = LOSSES.load("additive")
    objective.tilt(1.0)
    assert all(not theta_l.any() for theta_l in objective.theta)


def test_skip_keeps_its_probability_while_it_is_held(objective: Objective) -> None:
    with torch.no_grad():
        objective.theta[0].copy_(torch.tensor([0.3, -1.0, 0.7]))
    before = [p[2].item() for p in objective.probabilities()]
    put_back = hold_skip(list(objective.theta), objective.skips)
    with torch.no_grad():
        for theta_l in objective.theta:
            theta_l += torch.tensor([2.0, -0.5, -3.0])
    put_back()
    assert [p[2].item() for p in objective.probabilities()] == pytest.approx(before, rel=1e-5)
    p = objective.probabilities()[0]
    assert (p[0] / p[1]).item() == pytest.approx(math.exp(0.3 + 1.0 + 2.5), rel=1e-5)
