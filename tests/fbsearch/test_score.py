"""The score-function gradient against the gradient of the expectation, over all pairs; what an estimate learns."""

import itertools

import pytest
import torch

from fbsearch.beyond.score import RIDGE, Estimate, with_score
from fbsearch.strategies import single_path
from fbsearch.theta import one_hot, softmax

LOSSES = torch.tensor([[0.3, -1.2, 2.0], [1.1, 0.4, -0.7], [5.0, 5.5, 4.0]], dtype=torch.float64)
THETA = ([0.4, -0.8, 1.1], [0.0, 0.9, -0.3])


def leaves() -> list[torch.Tensor]:
    return [torch.tensor(values, dtype=torch.float64, requires_grad=True) for values in THETA]


def draw(theta: list[torch.Tensor], a: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """Return the sample whose draw is the network a."""
    monkeypatch.setattr(single_path, "gumbel_max", lambda *_: torch.tensor(a))
    return single_path.SinglePath().sample(theta, 1.0, torch.Generator())


def estimate_of(values: list[list[float]]) -> Estimate:
    """Return an estimate that holds such values."""
    estimate = Estimate([len(v_l) for v_l in values])
    v = torch.tensor(values, dtype=torch.float64).flatten()
    estimate.load_state(estimate.state() | {"v": v})
    return estimate


KNOWING_NOTHING = [[0.0] * 3] * 2


@pytest.mark.parametrize("offset", [0.0, 100.0])
@pytest.mark.parametrize("v", [KNOWING_NOTHING, [[3.0, -1.0, 0.5], [-2.0, 0.0, 7.0]]])
def test_its_expectation_over_all_pairs_is_the_gradient_of_the_expected_loss(
    offset: float, v: list[list[float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    estimate = estimate_of(v)
    p = [torch.softmax(theta_l, 0).detach() for theta_l in leaves()]
    theta, total = leaves(), torch.zeros((), dtype=torch.float64)
    networks = list(itertools.product(range(3), repeat=2))
    for pair in itertools.product(networks, repeat=2):
        samples = [draw(theta, a, monkeypatch) for a in pair]
        chance = torch.stack([p[0][a[0]] * p[1][a[1]] for a in pair]).prod()
        total = total + chance * with_score(
            torch.stack([LOSSES[a] + offset for a in pair]), samples, softmax(theta), estimate
        )
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
    loss = with_score(torch.full((3,), 7.0, dtype=torch.float64), samples, softmax(theta), estimate_of(KNOWING_NOTHING))
    loss.backward()  # type: ignore[no-untyped-call]
    assert all(theta_l.grad is not None and theta_l.grad.abs().max() < 1e-12 for theta_l in theta)


def test_what_all_networks_have_in_common_is_not_moved_by_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    """Adam makes a whole step of the least gradient, so that two ranks, which round otherwise, would part."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        theta = [theta_l.float().detach().requires_grad_() for theta_l in leaves()]
        samples = [draw(theta, a, monkeypatch) for a in ((0, 1), (2, 1), (1, 1))]
        losses = 2 + torch.randn(3, generator=generator)
        with_score(losses, samples, softmax(theta), estimate_of(KNOWING_NOTHING)).backward()  # type: ignore[no-untyped-call]
        assert theta[0].grad is not None
        assert theta[1].grad is not None
        assert theta[0].grad.abs().max() > 0.01
        assert (theta[1].grad == 0).all()


def test_a_gradient_that_the_loss_has_already_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    theta = leaves()
    samples = [draw(theta, a, monkeypatch) for a in ((0, 1), (2, 2))]
    direct = theta[0][1] * 3
    with_score(torch.stack([direct, direct]), samples, softmax(theta), estimate_of(KNOWING_NOTHING)).backward()  # type: ignore[no-untyped-call]
    assert theta[0].grad is not None
    torch.testing.assert_close(theta[0].grad, torch.tensor([0.0, 3.0, 0.0], dtype=torch.float64))


def test_the_gradient_of_a_draw_is_that_of_its_log_probability(monkeypatch: pytest.MonkeyPatch) -> None:
    for k in range(3):
        theta = leaves()
        m = draw(theta, (k, 0), monkeypatch)[0]
        assert torch.equal(m, one_hot(k, 3).double())
        m[k].backward()  # type: ignore[no-untyped-call]
        torch.testing.assert_close(theta[0].grad, one_hot(k, 3).double() - torch.softmax(theta[0].detach(), 0))


def test_an_estimate_finds_what_the_candidates_of_a_sum_are_worth() -> None:
    counts, generator = (3, 4, 2), torch.Generator().manual_seed(0)
    worth = [torch.randn(count, generator=generator, dtype=torch.float64) for count in counts]
    estimate, steps = Estimate(counts), 500
    for step in range(steps):
        networks = [[int(torch.randint(count, (), generator=generator)) for count in counts] for _ in range(3)]
        losses = torch.stack([sum((w[i] for w, i in zip(worth, a, strict=True)), torch.zeros(())) for a in networks])
        samples = [[one_hot(i, count) for i, count in zip(a, counts, strict=True)] for a in networks]
        estimate.learn(losses + 10 * step, samples)  # images that are harder make no difference
    for v_l, w_l in zip(estimate.per_layer(), worth, strict=True):
        torch.testing.assert_close(v_l - v_l.mean(), w_l - w_l.mean(), atol=0.02 * RIDGE, rtol=0)


def test_an_estimate_is_that_of_the_closed_form() -> None:
    estimate = Estimate([2])
    estimate.learn(torch.tensor([1.0, 4.0]), [[one_hot(0, 2)], [one_hot(1, 2)]])
    # ±1/2 for each of the two networks: (XᵀX + RIDGE) v = Xᵀy with XᵀX = [[1, -1], [-1, 1]] / 2, Xᵀy = [-3, 3] / 2
    torch.testing.assert_close(estimate.per_layer()[0], torch.tensor([-1.5, 1.5]).double() / (1 + RIDGE))


def test_an_estimate_learns_nothing_from_losses_that_are_not_numbers() -> None:
    estimate = estimate_of([[1.0, 2.0]])
    estimate.learn(torch.tensor([1.0, torch.nan]), [[one_hot(0, 2)], [one_hot(1, 2)]])
    assert estimate.per_layer()[0].tolist() == [1.0, 2.0]


def test_an_estimate_that_knows_the_losses_leaves_no_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    losses = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)
    estimate, gradients = estimate_of([losses.tolist(), [0.0] * 3]), []
    for pair in ((0, 1), (2, 0), (1, 2)):
        theta = leaves()
        samples = [draw(theta, (k, k), monkeypatch) for k in pair]
        loss = with_score(losses[list(pair)], samples, softmax(theta), estimate)
        loss.backward()  # type: ignore[no-untyped-call]
        gradients.append(theta[0].grad)
    expected = torch.autograd.grad(torch.softmax(t := leaves()[0], 0) @ losses, t)[0]
    for gradient in gradients:
        torch.testing.assert_close(gradient, expected)
