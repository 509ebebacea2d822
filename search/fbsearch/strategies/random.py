"""random: the supernet is trained on uniform paths, and the best of many networks drawn near the target wins."""

from collections.abc import Callable, Sequence

import torch

from fbsearch.strategies import Choices, Draw
from fbsearch.strategies.single_path import ONE_PATH as ONE_PATH
from fbsearch.strategies.single_path import layer as layer
from fbsearch.strategies.single_path import sample as sample


def find(
    draw: Draw, judge: Callable[[Choices], float], layers: Sequence[int], evaluations: int, seed: int
) -> list[Choices]:
    """Return distinct random networks, the lowest loss first (Li and Talwalkar, UAI'19: the baseline to beat)."""
    uniform = [torch.zeros(count) for count in layers]
    drawn = (draw(uniform) for _ in range(evaluations))
    losses = {choices: judge(choices) for choices in dict.fromkeys(drawn) if choices is not None}
    return sorted(losses, key=losses.__getitem__)
