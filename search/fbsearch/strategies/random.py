"""random: the supernet is trained on uniform paths, and the best of many networks drawn near the target wins."""

from collections.abc import Sequence

import torch

from fbsearch.strategies import Choices, Draw, Judge
from fbsearch.strategies.single_path import SinglePath


class Random(SinglePath):
    """Random search with shared weights."""

    compares = 0  # there are no steps of θ

    def find(self, draw: Draw, judge: Judge, layers: Sequence[int], evaluations: int, seed: int) -> list[Choices]:
        """Return distinct random networks, the lowest loss first (Li and Talwalkar, UAI'19: the baseline to beat)."""
        uniform = [torch.zeros(count) for count in layers]
        drawn = (draw(uniform) for _ in range(evaluations))
        losses = {choices: judge(choices) for choices in dict.fromkeys(drawn) if choices is not None}
        return sorted(losses, key=losses.__getitem__)
