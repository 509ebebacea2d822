"""Mixup and cutout: training images that are mixed in pairs, or lack a square, and the loss of mixed labels."""

import functools
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fbsearch.training.recipe import Recipe


@dataclass(frozen=True, slots=True)
class MixedLabels:
    """Labels of a batch (N each): `share` of the first and the rest of the second; the first are never the lesser."""

    first: Tensor
    second: Tensor
    share: float = 1.0

    def loss(self, logits: Tensor, label_smoothing: float) -> Tensor:
        """Return the mean cross-entropy against the mixed labels; it is linear in them, smoothed or not."""
        loss_of = functools.partial(F.cross_entropy, logits, label_smoothing=label_smoothing)
        if self.share == 1:
            return loss_of(self.first)
        return self.share * loss_of(self.first) + (1 - self.share) * loss_of(self.second)


def cut_and_mix(x: Tensor, y: Tensor, recipe: Recipe, rng: np.random.Generator) -> tuple[Tensor, MixedLabels]:
    """Cut out and mix a normalised batch (N, C, H, W and N labels), as far as the recipe wants either."""
    if recipe.cutout:
        x = cutout(x, recipe.cutout, rng)
    if recipe.mixup:
        return mixup(x, y, recipe.mixup, rng)
    return x, MixedLabels(y, y)


def cutout(x: Tensor, share: float, rng: np.random.Generator) -> Tensor:
    """Return the batch with a square of every image set to zero, the mean (DeVries and Taylor, 2017).

    Its side is `share` of the image's longer one; its centre is any pixel, so that it may reach beyond the edge.
    """
    count, _, height, width = x.shape
    side = max(1, round(share * max(height, width)))
    top, left = (rng.integers(0, size, count) - side // 2 for size in (height, width))
    rows, columns = (
        (np.arange(size) >= start[:, None]) & (np.arange(size) < start[:, None] + side)
        for size, start in ((height, top), (width, left))
    )
    square = torch.from_numpy(rows[:, None, :, None] & columns[:, None, None, :])
    return x.masked_fill(square.to(x.device), 0)


def mixup(x: Tensor, y: Tensor, alpha: float, rng: np.random.Generator) -> tuple[Tensor, MixedLabels]:
    """Return λ · x + (1 − λ) · x' and both labels, with x' the batch in another order (Zhang et al., 2018).

    λ ~ Beta(α, α) is one number for the batch. It is taken as max(λ, 1 − λ), which gives the same mixtures and makes
    the first label the one to count as right.
    """
    drawn = float(rng.beta(alpha, alpha))
    share = max(drawn, 1 - drawn)
    order = torch.from_numpy(rng.permutation(len(x))).to(x.device)
    return share * x + (1 - share) * x[order], MixedLabels(y, y[order], share)
