"""Mixup and cutout against plain loops, and the loss of mixed labels against cross-entropy with soft labels."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from fbsearch.machine.seeds import step_rng
from fbsearch.training.mixup import MixedLabels, cut_and_mix, cutout, mixup
from fbsearch.training.recipe import Recipe


@pytest.mark.parametrize("share", [0.25, 0.5, 0.9])
def test_cutout_zeroes_a_clipped_square_and_nothing_else(share: float) -> None:
    x = torch.rand(6, 3, 10, 7) + 1
    y = cutout(x, share, np.random.default_rng(3))
    rng, side = np.random.default_rng(3), round(share * 10)
    rows, columns = rng.integers(0, 10, 6), rng.integers(0, 7, 6)
    expected = x.clone()
    for i in range(6):
        for r in range(10):
            for c in range(7):
                top, left = rows[i] - side // 2, columns[i] - side // 2
                if top <= r < top + side and left <= c < left + side:
                    expected[i, :, r, c] = 0
    assert torch.equal(y, expected)
    assert (y == 0).any()
    assert (x > 0).all()


def test_mixup_is_a_weighted_sum_with_another_image_whose_label_has_the_rest() -> None:
    x, y = torch.rand(5, 3, 4, 4), torch.arange(5)
    mixed, labels = mixup(x, y, 0.4, np.random.default_rng(8))
    rng = np.random.default_rng(8)
    drawn = rng.beta(0.4, 0.4)
    order = rng.permutation(5)
    assert labels.share == pytest.approx(max(drawn, 1 - drawn))
    assert labels.first.tolist() == [0, 1, 2, 3, 4]
    assert labels.second.tolist() == order.tolist()
    for i in range(5):
        torch.testing.assert_close(mixed[i], labels.share * x[i] + (1 - labels.share) * x[order[i]])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("share", [1.0, 0.7])
def test_the_loss_is_cross_entropy_against_the_mixed_and_smoothed_distribution(share: float, smoothing: float) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(6, 4, generator=generator, dtype=torch.float64)
    first, second = torch.tensor([0, 1, 2, 3, 0, 1]), torch.tensor([3, 1, 0, 2, 1, 0])
    soft = share * F.one_hot(first, 4).double() + (1 - share) * F.one_hot(second, 4).double()
    soft = (1 - smoothing) * soft + smoothing / 4
    expected = -(soft * logits.log_softmax(1)).sum(1).mean()
    assert MixedLabels(first, second, share).loss(logits, smoothing).item() == pytest.approx(expected.item())


def test_without_either_a_batch_is_left_as_it_is() -> None:
    x, y = torch.rand(2, 3, 4, 4), torch.tensor([1, 0])
    mixed, labels = cut_and_mix(x, y, Recipe(), step_rng(0, 0, 0))
    assert mixed is x
    assert (labels.first is y, labels.share) == (True, 1.0)


def test_every_step_has_draws_of_its_own() -> None:
    places = [(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0)]
    draws = [step_rng(*place).random() for place in places]
    assert len(set(draws)) == 4
    assert draws == [step_rng(*place).random() for place in places]
