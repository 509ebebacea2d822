"""mixture: the paper's strategy; every candidate runs, and outputs are summed with Gumbel-softmax weights."""

from collections.abc import Sequence

import torch
from torch import Tensor

from fbsearch.strategies import Block, Strategy
from fbsearch.theta import gumbel_softmax, in_rows, per_layer


class Mixture(Strategy):
    """All candidates of a layer run in every step."""

    def sample(self, theta: Sequence[Tensor], temperature: float, generator: torch.Generator) -> list[Tensor]:
        """Draw m_l ~ GumbelSoftmax(θ_l, τ) for every layer l."""
        return per_layer(gumbel_softmax(in_rows(theta), temperature, generator), theta)

    def layer(self, candidates: Sequence[Block], x: Tensor, m: Tensor) -> Tensor:
        """Return y = Σ_i m_i · b_i(x) (FBNet, section 3.3)."""
        y = torch.zeros(())
        for m_i, b_i in zip(m.to(x.device), candidates, strict=True):
            y = y + m_i * b_i(x)
        return y
