"""Mean: values averaged over images, summed up where the batches are."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor


def _zeros() -> Tensor:
    return torch.zeros(4, dtype=torch.float64)


@dataclass(slots=True)
class Mean:
    """Sums of three values over images. They stay on the device of the batches: reading one waits for a GPU."""

    sums: Tensor = field(default_factory=_zeros)
    """Images, then the values."""

    @torch.no_grad()
    def add(self, images: int, means: Sequence[Tensor], counts: Sequence[Tensor]) -> None:
        """Add a batch: values that are its means, then values that count some of its images."""
        device = counts[0].device
        batch = [mean.double() * images for mean in means] + [count.double() for count in counts]
        self.sums = self.sums.to(device)
        self.sums[0] += images
        self.sums[1:] += torch.stack([value.to(device) for value in batch])

    @property
    def images(self) -> int:
        """The number of images."""
        return int(self.sums[0])

    def values(self) -> list[float]:
        """Return the mean of every value."""
        images, *sums = self.sums.tolist()
        return [value / max(images, 1) for value in sums]
