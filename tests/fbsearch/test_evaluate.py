"""Accuracy and cross-entropy of networks whose answers are known."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fbsearch.errors import DivergedError
from fbsearch.images.data import Data
from fbsearch.machine.metrics import Mean
from fbsearch.training.evaluate import Evaluation, evaluate, right


class Answers(nn.Module):
    """Gives one class the score `height`, whatever the image, and NaN where that is one."""

    def __init__(self, answer: int, height: float) -> None:
        super().__init__()
        self.answer, self.height = answer, height

    def forward(self, x: Tensor) -> Tensor:
        logits = torch.zeros(len(x), 10)
        logits[:, self.answer] = self.height
        return logits


@pytest.mark.parametrize("batch", [7, 64])
def test_a_network_that_always_says_three(digits: Data, batch: int) -> None:
    share = (digits.test.labels == 3).double().mean().item()
    result = evaluate(Answers(3, 2.0), digits, digits.test, batch)
    assert result.images == len(digits.test)
    assert result.top1_percent == pytest.approx(100 * share)
    log_sum = math.log(9 + math.exp(2))
    assert result.cross_entropy == pytest.approx(log_sum - 2 * share)


def test_top_1_and_top_5_are_counted_as_by_sorting() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, y = torch.randn(40, 12, generator=generator), torch.randint(12, (40,), generator=generator)
    mean = Mean()
    for part in (slice(0, 15), slice(15, 40)):
        mean.add(len(y[part]), (F.cross_entropy(logits[part], y[part]),), right(logits[part], y[part]))
    rank = (logits > logits.gather(1, y[:, None])).sum(1)
    result = Evaluation.of(mean, 12)
    assert result.images == 40
    assert result.top1_percent == pytest.approx(100 * (rank == 0).double().mean().item())
    assert result.top5_percent == pytest.approx(100 * (rank < 5).double().mean().item())
    assert result.cross_entropy == pytest.approx(-logits.log_softmax(1).gather(1, y[:, None]).mean().item(), rel=1e-6)
    assert Evaluation.of(Mean(torch.tensor(mean.sums.tolist(), dtype=torch.float64)), 12) == result


def test_of_few_classes_there_is_no_top_5() -> None:
    logits, y = torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([0])
    mean = Mean()
    mean.add(1, (F.cross_entropy(logits, y),), right(logits, y))
    assert Evaluation.of(mean, 3).top5_percent is None


def test_outputs_that_are_not_numbers_are_an_error(digits: Data) -> None:
    with pytest.raises(DivergedError, match=r"cross-entropy of \d+ images is nan"):
        evaluate(Answers(0, math.nan), digits, digits.test, 64)
