"""The score-function gradient against the gradient of the expectation, summed over all pairs of networks."""

import itertools

import pytest
import torch

from fbsearch.score import with_score
from fbsearch.search import one_hot
from fbsearch.strategies import single_path

LOSSES = torch.tensor([[0.3, -1.2, 2.0], [1.1, 0.4, -0.7], [5.0, 5.5, 4.0]], dtype=torch.float64)
THETA = ([0.4, -0.8, 1.1], [0.0, 0.9, -0.3])


def leaves() -> list[torch.Tensor]:
    return [torch.tensor(values, dtype=torch.float64, requires_grad=True) for values in THETA]


def draw(theta: list[torch.Tensor], a: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """Return the sample whose draw is the network a."""
    choices = iter(a)
    monkeypatch.setattr(single_path, "gumbel_max", lambda *_: torch.tensor(next(choices)))
    return single_path.sample(theta, 1.0, torch.Generator())


@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_its_expectation_over_all_pairs_is_the_gradient_of_the_expected_loss(
    offset: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    p = [torch.softmax(theta_l, 0).detach() for theta_l in leaves()]
    theta, total = leaves(), torch.zeros((), dtype=torch.float64)
    networks = list(itertools.product(range(3), repeat=2))
    for pair in itertools.product(networks, repeat=2):
        samples = [draw(theta, a, monkeypatch) for a in pair]
        chance = torch.stack([p[0][a[0]] * p[1][a[1]] for a in pair]).prod()
        total = total + chance * with_score([LOSSES[a] + offset for a in pair], samples)
    total.backward()  # type: ignore[no-untyped-call]
    truth = leaves()
    expected = torch.softmax(truth[0], 0) @ (LOSSES + offset) @ torch.softmax(truth[1], 0)
    expected.backward()  # type: ignore[no-untyped-call]
    assert total.item() == pytest.approx(expected.item())
    for got, want in zip(theta, truth, strict=True):
        torch.testing.assert_close(got.grad, want.grad)


def test_losses_that_are_equal_say_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    theta = leaves()
    samples = [draw(theta, a, monkeypatch) for a in ((0, 1), (2, 2), (1, 0))]
    with_score([torch.tensor(7.0, dtype=torch.float64)] * 3, samples).backward()  # type: ignore[no-untyped-call]
    assert all(theta_l.grad is not None and theta_l.grad.abs().max() < 1e-12 for theta_l in theta)


def test_a_gradient_that_the_loss_has_already_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    theta = leaves()
    samples = [draw(theta, a, monkeypatch) for a in ((0, 1), (2, 2))]
    direct = theta[0][1] * 3
    with_score([direct, direct], samples).backward()  # type: ignore[no-untyped-call]
    assert theta[0].grad is not None
    torch.testing.assert_close(theta[0].grad, torch.tensor([0.0, 3.0, 0.0], dtype=torch.float64))


def test_the_gradient_of_a_draw_is_that_of_its_log_probability(monkeypatch: pytest.MonkeyPatch) -> None:
    for k in range(3):
        theta = leaves()
        m = draw(theta, (k, 0), monkeypatch)[0]
        assert torch.equal(m, one_hot(k, 3).double())
        m[k].backward()  # type: ignore[no-untyped-call]
        torch.testing.assert_close(theta[0].grad, one_hot(k, 3).double() - torch.softmax(theta[0].detach(), 0))
