"""The price of latency in θ's gradient: its closed form, and the optimum of a task small enough to try everything."""

import itertools
from typing import Any

import pytest
import torch

from fbsearch.costs import AdditiveCost
from fbsearch.fbnet.objective import Objective
from fbsearch.fbnet.settings import Settings
from fbsearch.losses import LOSSES
from fbspace.space import Space, load_space

VALUE = torch.tensor([[0.0, 0.3, 0.5], [0.0, 2.0, 2.1], [0.0, 0.1, 0.9], [0.0, 0.05, 0.06]])
COST = torch.tensor([[1.0, 20.0, 50.0], [1.0, 30.0, 70.0], [1.0, 10.0, 60.0], [1.0, 40.0, 70.0]])


def make(loss: str, target: float | None, space: Space, **settings: Any) -> Objective:
    cost = AdditiveCost(space, lambda _: 0.0, "µs")
    cost.layers = list(COST.double())
    chosen = Settings(space="fbnet-tiny", data="digits", loss=loss, **settings)
    return Objective("x", cost, target, LOSSES.load(loss), [[False] * 3] * 4, chosen)


@pytest.fixture(scope="module")
def tiny() -> Space:
    return load_space("fbnet-tiny")


def test_the_price_leaves_nothing_of_a_gradient_along_the_constraint(tiny: Space) -> None:
    objective = make("target", 100.0, tiny)
    generator = torch.Generator().manual_seed(0)
    gradients = torch.randn(4, 3, generator=generator)
    for _ in range(300):
        for theta_l, gradient in zip(objective.theta, gradients, strict=True):
            theta_l.grad = gradient.clone()
        objective.charge()
    # of uniform P: ∂E[cost]/∂θ_i = P_i (cost_i − mean cost)
    slopes = (COST - COST.mean(1, keepdim=True)) / 3 / 100
    assert objective.price == pytest.approx(float(-(gradients * slopes).sum() / (slopes * slopes).sum()), rel=1e-4)
    charged = torch.stack([theta_l.grad for theta_l in objective.theta if theta_l.grad is not None])
    assert float((charged * slopes).sum()) == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize(("loss", "target"), [("target", None), ("paper", 100.0)])
def test_a_gradient_of_another_loss_stays_as_it_is(loss: str, target: float | None, tiny: Space) -> None:
    objective = make(loss, target, tiny)
    for theta_l in objective.theta:
        theta_l.grad = torch.ones(3)
    objective.charge()
    assert [theta_l.grad.tolist() for theta_l in objective.theta if theta_l.grad is not None] == [[1.0] * 3] * 4


def test_theta_ends_at_the_best_network_within_the_target(tiny: Space) -> None:
    def total(of: torch.Tensor, choices: tuple[int, ...]) -> float:
        return float(of[range(4), choices].sum())

    target = 111.0  # what the best network of all at this latency takes
    every = list(itertools.product(range(3), repeat=4))
    best = max((choices for choices in every if total(COST, choices) <= target), key=lambda c: total(VALUE, c))
    assert total(COST, best) == target
    objective = make("target", target, tiny, theta_lr=0.05)
    for step in range(300):
        p = [torch.softmax(theta_l, 0) for theta_l in objective.theta]
        loss = -sum((p_l * v).sum() for p_l, v in zip(p, VALUE, strict=True))
        objective.optimizer.zero_grad()
        loss.backward()  # type: ignore[union-attr]
        objective.charge()
        objective.optimizer.step()
        objective.tilt((step + 1) / 300)
    assert tuple(int(theta_l.argmax()) for theta_l in objective.theta) == best


def test_the_price_is_kept_for_a_search_that_goes_on(tiny: Space) -> None:
    one, other = make("target", 100.0, tiny), make("target", 100.0, tiny)
    one.price = 0.25
    other.load_state(one.state())
    assert other.price == 0.25
