"""random: the supernet is trained on uniform paths, and the best of many networks sampled near the target wins."""

from collections.abc import Sequence

import torch

from fbsearch.strategies import Choices, LossOf, Sampler
from fbsearch.strategies.single_path import SinglePath


class Random(SinglePath):
    """Random search with shared weights."""

    compares = 0  # there are no steps of θ

    def find(self, sampler: Sampler, loss: LossOf, layers: Sequence[int], evaluations: int, seed: int) -> list[Choices]:
        """Return distinct random networks, the lowest loss first (Li and Talwalkar, UAI'19: the baseline to beat)."""
        uniform = [torch.zeros(count) for count in layers]
        sampled = (sampler(uniform) for _ in range(evaluations))
        losses = {choices: loss(choices) for choices in dict.fromkeys(sampled) if choices is not None}
        return sorted(losses, key=losses.__getitem__)
