"""darts: every candidate runs, and outputs are summed with softmax weights, without noise or temperature."""

from collections.abc import Sequence

import torch
from torch import Tensor

from fbsearch.strategies.mixture import layer as layer
from fbsearch.theta import softmax


def sample(theta: Sequence[Tensor], temperature: float, generator: torch.Generator) -> list[Tensor]:
    """Return m_l = softmax(θ_l) for every layer l (DARTS, ICLR'19, equation 2)."""
    return softmax(theta)
