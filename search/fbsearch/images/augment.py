"""Augmentation of whole batches on their own device: random crops, flips and resized crops, no loop over images.

What is random (`Params`) is kept apart from what is computed: it is sampled on the CPU for the whole batch, so that a
batch looks the same on every device and a process that holds a part of it can take its part of the numbers.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

AUGMENTATIONS = ("none", "crop", "flip", "crop-flip", "resized-crop")

PAD_SHARE = 1 / 8
"""Padding on each side, as a share of the image's side: 4 of 32 pixels, as is usual for CIFAR."""
AREA = (0.08, 1.0)
"""Least and greatest area of a resized crop, as a share of the image's (Szegedy et al., 2015)."""
RATIO = (3 / 4, 4 / 3)
"""Least and greatest width to height of a resized crop."""
TRIES = 10


@dataclass(frozen=True, slots=True)
class Params:
    """The random numbers of one batch, each a tensor of one row per image.

    `box` is top, left, height and width: of "crop" the first two, whole pixels of the padded image; of "resized-crop"
    all four, as shares of the image. Empty where the augmentation has none.
    """

    flip: Tensor
    box: Tensor

    def part(self, rank: int, world: int) -> "Params":
        """Return the numbers of images rank, rank + world, …"""
        return Params(self.flip[rank::world], self.box[rank::world])


def sample_params(name: str, count: int, height: int, width: int, generator: torch.Generator) -> Params:
    """Sample what an augmentation needs for `count` images; the generator is one of the CPU."""
    flip = torch.zeros(count, dtype=torch.bool)
    if name in ("flip", "crop-flip", "resized-crop"):
        flip = torch.rand(count, generator=generator) < 0.5
    box = torch.empty(count, 0)
    if name in ("crop", "crop-flip"):
        span = torch.tensor([2 * _pad(height) + 1, 2 * _pad(width) + 1])
        box = (torch.rand(count, 2, generator=generator) * span).long().clamp(max=span - 1)
    elif name == "resized-crop":
        box = _boxes(count, width / height, generator)
    return Params(flip, box)


def augment(name: str, x: Tensor, params: Params) -> Tensor:
    """Return N, C, H, W of the same shape. Pixels beyond the border are 0, the mean of a normalised image."""
    flip, box = params.flip.to(x.device), params.box.to(x.device)
    if name == "flip":
        return torch.where(flip[:, None, None, None], x.flip(3), x)
    if name in ("crop", "crop-flip"):
        return _crop(x, box, flip)
    if name == "resized-crop":
        return _resized_crop(x, box, flip)
    return x


def _pad(side: int) -> int:
    return max(1, round(side * PAD_SHARE))


def _crop(x: Tensor, box: Tensor, flip: Tensor) -> Tensor:
    """Pad, and take from every image H×W pixels at its own place, from right to left where it is flipped."""
    count, channels, height, width = x.shape
    across = torch.arange(width, device=x.device).expand(count, width)
    across = torch.where(flip[:, None], width - 1 - across, across)
    rows = box[:, :1] + torch.arange(height, device=x.device)
    columns = box[:, 1:] + across
    padded = F.pad(x, (_pad(width), _pad(width), _pad(height), _pad(height)))
    place = (rows[:, :, None] * padded.shape[3] + columns[:, None, :]).view(count, 1, -1).expand(-1, channels, -1)
    return padded.flatten(2).gather(2, place).view_as(x)


def _boxes(count: int, image_ratio: float, generator: torch.Generator) -> Tensor:
    """Return top, left, height, width as shares: the first of ten tries that fits, else the largest box in RATIO.

    Area uniform in AREA, log of width to height uniform in RATIO, place uniform.
    """
    area = AREA[0] + (AREA[1] - AREA[0]) * torch.rand(count, TRIES, generator=generator)
    low, high = math.log(RATIO[0]), math.log(RATIO[1])
    # The ratio of shares is that of pixels, divided by the image's own.
    ratio = torch.exp(low + (high - low) * torch.rand(count, TRIES, generator=generator)) / image_ratio
    heights, widths = (area / ratio).sqrt(), (area * ratio).sqrt()
    fits = (heights <= 1) & (widths <= 1)
    first = fits.int().argmax(1, keepdim=True)
    ratio_of_all = min(max(image_ratio, RATIO[0]), RATIO[1]) / image_ratio
    found = fits.any(1)
    height = torch.where(found, heights.gather(1, first)[:, 0], torch.tensor(min(1.0, 1 / ratio_of_all)))
    width = torch.where(found, widths.gather(1, first)[:, 0], torch.tensor(min(1.0, ratio_of_all)))
    place = torch.rand(count, 2, generator=generator)
    return torch.stack([place[:, 0] * (1 - height), place[:, 1] * (1 - width), height, width], 1)


def _resized_crop(x: Tensor, box: Tensor, flip: Tensor) -> Tensor:
    """Bring each image's box to the image's own size, bilinear; a box is never larger than the image."""
    top, left, height, width = (part[:, None] for part in box.unbind(1))
    rows, columns = ((torch.arange(side, device=x.device) + 0.5) / side for side in x.shape[2:])
    columns = torch.where(flip[:, None], columns.flip(0), columns)
    down, across = 2 * (top + height * rows) - 1, 2 * (left + width * columns) - 1  # -1 … 1 across the image
    grid = torch.stack([across[:, None, :].expand(-1, x.shape[2], -1), down[:, :, None].expand(-1, -1, x.shape[3])], -1)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)
