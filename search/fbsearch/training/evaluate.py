"""Evaluation: how often a network is right about images, and its cross-entropy."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fbsearch.errors import DivergedError
from fbsearch.images.data import Data
from fbsearch.images.split import Split
from fbsearch.machine.compute import Compute
from fbsearch.machine.metrics import Mean

TOP5_CLASSES = 10
"""With fewer classes, five guesses say little, and top-5 is left away."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Accuracies in percent and the mean cross-entropy over so many images; `top5_percent` where it says something."""

    images: int
    top1_percent: float
    top5_percent: float | None
    cross_entropy: float

    @classmethod
    def of(cls, mean: Mean, classes: int) -> "Evaluation":
        """Return what was measured by `right` and the cross-entropy."""
        cross_entropy, top1, top5 = mean.values()
        return cls(mean.images, 100 * top1, 100 * top5 if classes >= TOP5_CLASSES else None, cross_entropy)


def right(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return how many labels were guessed at once, and in five guesses."""
    guesses = logits.topk(min(5, logits.shape[1])).indices == labels[:, None]
    return guesses[:, 0].sum(), guesses.sum()


@torch.no_grad()
def evaluate(network: nn.Module, data: Data, split: Split, batch: int, compute: Compute | None = None) -> Evaluation:
    """Run a network in eval mode over a split; it is on the device. Raises DivergedError where its outputs are none."""
    compute = compute or Compute()
    network.eval()
    mean = Mean()
    for x, y in data.batches(split, batch):
        with compute.autocast():
            logits = network(compute.batch(x)).float()
        labels = y.to(compute.device)
        mean.add(len(labels), (F.cross_entropy(logits, labels),), right(logits, labels))
    result = Evaluation.of(mean, len(data.classes))
    if not math.isfinite(result.cross_entropy):
        images, loss = result.images, result.cross_entropy
        raise DivergedError(f"the cross-entropy of {images} images is {loss}: the weights are of no use")
    return result
