"""Gumbel-softmax against its closed forms and against finite differences."""

import torch

from fbsearch.theta import gumbel_softmax

THETA = torch.tensor([0.5, -1.0, 1.5, 0.0], dtype=torch.float64)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_at_low_temperature_samples_choose_with_the_probability_of_softmax() -> None:
    draws = 20_000
    m = gumbel_softmax(THETA.expand(draws, 4), 0.01, generator())
    frequency = torch.bincount(m.argmax(1), minlength=4) / draws
    # 5 standard deviations of a frequency from 20,000 draws are below 0.018
    torch.testing.assert_close(frequency.double(), torch.softmax(THETA, 0), atol=0.018, rtol=0)
    assert (m.max(1).values > 0.99).double().mean() > 0.95


def test_at_high_temperature_samples_are_uniform() -> None:
    m = gumbel_softmax(THETA, 1e6, generator())
    torch.testing.assert_close(m, torch.full((4,), 0.25, dtype=torch.float64), atol=1e-4, rtol=0)


def test_a_sample_sums_to_one_and_follows_from_the_seed() -> None:
    first, again, other = (gumbel_softmax(THETA, 1.0, generator(seed)) for seed in (3, 3, 4))
    torch.testing.assert_close(first.sum().item(), 1.0)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_gradient_agrees_with_finite_differences() -> None:
    theta = THETA.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda t: gumbel_softmax(t, 0.7, generator()), (theta,))
