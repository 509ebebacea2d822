"""What every strategy, cost and loss must do, for every name found."""

import pytest
import torch
from torch import nn

from fblut.table import Lut
from fbsearch.costs import COSTS, build_cost
from fbsearch.losses import LOSSES, Weighing, load_loss
from fbsearch.search import one_hot
from fbsearch.strategies import STRATEGIES, load_strategy
from fbspace.space import Space

WEIGHING = Weighing(target=400.0)


def test_the_published_names_are_found() -> None:
    assert {"mixture", "single-path", "darts", "random", "evolution"} <= set(STRATEGIES.names())
    assert {"lut", "macs", "params"} <= set(COSTS.names())
    assert {"paper", "product", "additive", "target"} <= set(LOSSES.names())


@pytest.mark.parametrize("name", STRATEGIES.names())
class TestStrategy:
    def test_weights_are_a_distribution_per_layer_and_follow_from_the_generator(self, name: str) -> None:
        strategy = load_strategy(name)
        theta = [torch.tensor([0.0, 1.0, 2.0], requires_grad=True), torch.zeros(2, requires_grad=True)]
        m, again = (strategy.sample(theta, 1.0, torch.Generator().manual_seed(1)) for _ in range(2))
        assert [m_l.shape for m_l in m] == [(3,), (2,)]
        for m_l, again_l in zip(m, again, strict=True):
            assert (m_l >= 0).all()
            assert m_l.sum().item() == pytest.approx(1)
            assert torch.equal(m_l, again_l)

    def test_cross_entropy_and_cost_reach_theta(self, name: str) -> None:
        strategy = load_strategy(name)
        theta = [torch.zeros(3, requires_grad=True)]
        scales = nn.ModuleList([nn.Identity(), nn.Hardtanh(-0.5, 0.5), nn.ReLU()])
        generator = torch.Generator().manual_seed(1)
        for _ in range(9):  # a strategy that runs one candidate learns nothing from some draws
            m = strategy.sample(theta, 1.0, generator)
            (strategy.layer(scales, torch.tensor([[-2.0, 2.0]]), m[0]) ** 2).sum().backward()
        assert theta[0].grad is not None
        assert theta[0].grad.abs().sum() > 0

    def test_one_hot_weights_give_the_chosen_candidate(self, name: str) -> None:
        candidates = nn.ModuleList([nn.Identity(), nn.ReLU(), nn.Tanh()])
        x = torch.randn(2, 5, generator=torch.Generator().manual_seed(0))
        for choice, candidate in enumerate(candidates):
            y = load_strategy(name).layer(candidates, x, one_hot(choice, 3))
            torch.testing.assert_close(y, candidate(x))


@pytest.mark.parametrize("name", COSTS.names())
class TestCost:
    def test_is_positive_differentiable_and_grows_with_the_larger_candidate(
        self, name: str, micro: Space, micro_lut: Lut
    ) -> None:
        cost = build_cost(name, micro, micro_lut)
        m = [torch.full((3,), 1 / 3, requires_grad=True) for _ in micro.layers]
        total = cost(m)
        assert total.ndim == 0
        assert total.item() > 0
        assert cost.unit
        total.backward()
        assert all(m_l.grad is not None and m_l.grad[1] > m_l.grad[0] for m_l in m)  # k5_e3 over k3_e1
        assert cost([one_hot(1, 3)] * 2) > cost([one_hot(2, 3)] * 2)  # k5_e3 over skip


@pytest.mark.parametrize("name", LOSSES.names())
class TestLoss:
    def test_is_a_scalar_that_grows_with_cross_entropy_and_is_differentiable_in_both(self, name: str) -> None:
        loss = load_loss(name).loss
        cross_entropy = torch.tensor(1.5, requires_grad=True)
        cost = torch.tensor(500.0, dtype=torch.float64, requires_grad=True)
        value = loss(cross_entropy, cost, WEIGHING)
        assert value.ndim == 0
        value.backward()
        assert cross_entropy.grad is not None
        assert cross_entropy.grad > 0
        assert cost.grad is not None
        assert torch.isfinite(cost.grad)
