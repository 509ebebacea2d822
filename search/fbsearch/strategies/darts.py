"""darts: every candidate runs, and outputs are summed with softmax weights, without noise or temperature."""

from collections.abc import Sequence

import torch
from torch import Tensor

from fbsearch.strategies.mixture import Mixture
from fbsearch.theta import softmax


class Darts(Mixture):
    """The mixture without noise."""

    def sample(self, theta: Sequence[Tensor], temperature: float, generator: torch.Generator) -> list[Tensor]:
        """Return m_l = softmax(θ_l) for every layer l (DARTS, ICLR'19, equation 2)."""
        return softmax(theta)
