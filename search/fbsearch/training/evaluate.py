"""Evaluation: how often a network is right about images, and its cross-entropy."""

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fbsearch.errors import DivergedError
from fbsearch.images.data import Data
from fbsearch.images.split import Split
from fbsearch.machine.compute import Compute

TOP5_CLASSES = 10
"""With fewer classes, five guesses say little, and top-5 is left away."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Accuracies in percent and the mean cross-entropy over so many images; `top5_percent` where it says something."""

    images: int
    top1_percent: float
    top5_percent: float | None
    cross_entropy: float


class Tally:
    """Sums over images, kept on the device: to read one waits for it, and to add does not."""

    def __init__(self, device: torch.device) -> None:
        self.images = 0
        self.sums = torch.zeros(3, dtype=torch.float64, device=device)
        """Cross-entropy, right at once, right in five guesses."""

    @torch.no_grad()
    def add(self, logits: Tensor, labels: Tensor, cross_entropy: Tensor | None = None) -> None:
        """Add a batch; its mean cross-entropy is computed unless given."""
        count, classes = logits.shape
        if cross_entropy is None:
            cross_entropy = F.cross_entropy(logits, labels)
        guesses = logits.topk(min(5, classes)).indices == labels[:, None]
        self.images += count
        self.sums += torch.stack([cross_entropy.double() * count, guesses[:, 0].sum(), guesses.sum()])

    def result(self, classes: int) -> Evaluation:
        """Return the means over all images that were added."""
        cross_entropy, top1, top5 = (self.sums / max(self.images, 1)).tolist()
        return Evaluation(self.images, 100 * top1, 100 * top5 if classes >= TOP5_CLASSES else None, cross_entropy)

    def state(self) -> dict[str, Any]:
        """Return what `load_state` takes."""
        return {"images": self.images, "sums": self.sums.tolist()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from an earlier run's sums."""
        self.images = state["images"]
        self.sums = torch.tensor(state["sums"], dtype=torch.float64, device=self.sums.device)


@torch.no_grad()
def evaluate(network: nn.Module, data: Data, split: Split, batch: int, compute: Compute | None = None) -> Evaluation:
    """Run a network in eval mode over a split; it is on the device. Raises DivergedError where its outputs are none."""
    compute = compute or Compute()
    network.eval()
    tally = Tally(compute.device)
    for x, y in data.batches(split, batch):
        with compute.autocast():
            logits = network(compute.batch(x))
        tally.add(logits.float(), y.to(compute.device))
    result = tally.result(len(data.classes))
    if not math.isfinite(result.cross_entropy):
        raise DivergedError(
            f"the cross-entropy of {result.images} images is {result.cross_entropy}: the weights are of no use"
        )
    return result
