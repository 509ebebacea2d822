"""Ranks: the processes that share one search under torchrun; a search of one process is the case of one rank."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process's rank, and how many there are; all draw the same architectures, and each its part of a batch."""

    rank: int = 0
    world: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this rank writes files and shows progress."""
        return self.rank == 0

    def add(self, values: Tensor) -> Tensor:
        """Return the sum over all ranks."""
        if self.world > 1:
            dist.all_reduce(values)
        return values

    def share(self, images: int) -> float:
        """Return this rank's share of the images of a step."""
        return images / float(self.add(torch.tensor(float(images)))) if self.world > 1 else 1.0

    def add_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Sum the gradients of all ranks, each of a loss times the rank's share: the gradient of the whole batch."""
        if self.world > 1:
            gradients = [p.grad for p in parameters if p.grad is not None]
            flat = self.add(torch.cat([gradient.flatten() for gradient in gradients]))
            for gradient, summed in zip(gradients, torch.split(flat, [g.numel() for g in gradients]), strict=True):
                gradient.copy_(summed.view_as(gradient))
