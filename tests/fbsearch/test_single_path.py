"""single-path against sums over all paths written out, and what it leaves alone."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from fbsearch.data import Data
from fbsearch.search import Search, generator_of, one_hot
from fbsearch.settings import Settings
from fbsearch.strategies import load_strategy, single_path
from fbsearch.supernet import SuperNet
from fbspace.space import Space

THETA = torch.tensor([0.4, -0.8, 1.1], dtype=torch.float64)
SETTINGS = Settings(space="micro", data="digits", strategy="single-path", epochs=2, batch=40, limit=200)


class Constant(nn.Module):
    """Whatever comes in, this comes out."""

    def __init__(self, *values: float) -> None:
        super().__init__()
        self.values = torch.tensor([values], dtype=torch.float64)

    def forward(self, x: Tensor) -> Tensor:
        return self.values


def straight_through(k: int, theta: Tensor, monkeypatch: pytest.MonkeyPatch) -> Tensor:
    """Return the sample whose draw is k."""
    monkeypatch.setattr(single_path, "gumbel_max", lambda *_: torch.tensor(k))
    return single_path.sample([theta], 1.0, torch.Generator())[0]


@pytest.mark.parametrize("x", [torch.zeros(1, 1), torch.ones(1, 2)], ids=["other shape", "same shape"])
def test_the_expected_gradient_of_a_linear_loss_is_that_of_the_expected_loss(
    x: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    candidates = nn.ModuleList([Constant(1, 2), Constant(-3, 0.5), Constant(0.1, -1)])
    weights, cost = torch.tensor([[0.7, -0.2]], dtype=torch.float64), torch.tensor([5.0, 1.0, 9.0]).double()
    p = torch.softmax(THETA, 0)
    expected_gradient = torch.zeros(3, dtype=torch.float64)
    for k in range(3):
        theta = THETA.clone().requires_grad_()
        m = straight_through(k, theta, monkeypatch)
        ((single_path.layer(candidates, x, m) * weights).sum() + 0.3 * (m * cost).sum()).backward()
        assert theta.grad is not None
        expected_gradient += p[k] * theta.grad
    theta = THETA.clone().requires_grad_()
    losses = torch.stack([(b(x) * weights).sum() for b in candidates]) + 0.3 * cost
    (torch.softmax(theta, 0) * losses).sum().backward()
    torch.testing.assert_close(expected_gradient, theta.grad)


def test_the_gradient_of_a_draw_is_that_of_its_log_probability(monkeypatch: pytest.MonkeyPatch) -> None:
    for k in range(3):
        theta = THETA.clone().requires_grad_()
        m = straight_through(k, theta, monkeypatch)
        assert torch.equal(m, one_hot(k, 3).double())
        y = single_path.layer(nn.ModuleList([Constant(2.0)] * 3), torch.zeros(1, 3), m)
        assert y.item() == 2.0
        y.backward()
        torch.testing.assert_close(theta.grad, 2.0 * (one_hot(k, 3).double() - torch.softmax(THETA, 0)))


def test_draws_have_the_probabilities_of_softmax() -> None:
    draws, generator = 4000, torch.Generator().manual_seed(0)
    m = torch.stack([single_path.sample([THETA], 0.1, generator)[0] for _ in range(draws)])
    # 5 standard deviations of a frequency from 4,000 draws are below 0.04
    torch.testing.assert_close(m.mean(0), torch.softmax(THETA, 0), atol=0.04, rtol=0)


def test_forward_is_the_path_drawn_bit_for_bit(micro: Space) -> None:
    net, strategy = SuperNet.of(micro, 10, seed=0), load_strategy("single-path")
    x = torch.randn(6, 3, 8, 8).to(memory_format=torch.channels_last)
    for seed in range(4):
        m = strategy.sample([torch.zeros(3, requires_grad=True)] * 2, 1.0, torch.Generator().manual_seed(seed))
        y = net.stem(x)
        for layer, m_l in zip(net.layers, m, strict=True):
            y = layer[int(m_l.argmax())](y)  # type: ignore[index]
        assert torch.equal(net(x, m, strategy), net.head(y))


def test_a_layer_before_batch_normalisation_has_a_gradient_though_scale_is_nothing_to_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(0)
    norm, linear = nn.BatchNorm1d(4, eps=1e-9), nn.Linear(4, 4)
    x, target = torch.randn(8, 4), torch.randn(8, 4)
    theta = torch.zeros(3, requires_grad=True)
    m = straight_through(1, theta, monkeypatch)

    def norm_of(y: Tensor) -> Tensor:
        loss: Tensor = ((norm(y) - target) ** 2).sum()
        return loss

    norm_of(single_path.layer(nn.ModuleList([linear] * 3), x, m)).backward()
    y = linear(x).detach().requires_grad_()
    norm_of(y).backward()
    assert theta.grad is not None
    assert y.grad is not None
    assert (y.grad * y).sum().abs() < 1e-3
    contrast = (y.grad * (y.detach() - x)).sum()
    torch.testing.assert_close(theta.grad, contrast * torch.tensor([-1 / 3, 2 / 3, -1 / 3]))
    assert contrast.abs() > 0.1


def test_a_w_step_touches_the_candidates_drawn_and_no_other(make: Callable[..., Search], digits: Data) -> None:
    search = make(SETTINGS)
    before = [[[p.clone() for p in b.parameters()] for b in layer] for layer in search.net.layers]  # type: ignore[union-attr]
    m = search.strategy.sample(list(search.objectives[0].theta), 5.0, generator_of(0, "x"))
    x, y = next(digits.batches(digits.w, 16))
    search.w_step(x, y, 5.0, generator_of(0, "x"))
    for layer, before_l, m_l in zip(search.net.layers, before, m, strict=True):
        changed = [
            any(not torch.equal(p, q) for p, q in zip(b.parameters(), before_b, strict=True))
            for b, before_b in zip(layer, before_l, strict=True)  # type: ignore[call-overload]
        ]
        trainable = [bool(before_b) for before_b in before_l]
        assert changed == [bool(m_i) and some for m_i, some in zip(m_l, trainable, strict=True)]
