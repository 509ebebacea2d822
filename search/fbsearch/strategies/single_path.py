"""single-path: one candidate per layer runs, drawn from P_θ; θ learns from the losses of several such networks."""

from collections.abc import Sequence

import torch
from torch import Tensor

from fbsearch.strategies import Block, Strategy
from fbsearch.theta import gumbel_max, in_rows, per_layer


class SinglePath(Strategy):
    """One-hot samples of P_θ.

    A step of θ runs the networks that it compares forwards only, so three are a step's work. A gradient straight
    through the candidate that ran, ⟨∂L/∂y, b_k(x)⟩, takes one network, but is blind before convolution → batch
    normalisation, to which the scale of y is nothing: layers that change the shape would see the latency alone.
    """

    one_path = True
    compares = 3

    def sample(self, theta: Sequence[Tensor], temperature: float, generator: torch.Generator) -> list[Tensor]:
        """Draw k_l ~ P_θ for every layer l; m_l is one-hot in value, and only its element k has a gradient.

            m_k = 1,    ∇_θ m_k := ∇_θ log P_θ(k),    P_θ = softmax(θ)

        Draws are those of P_θ at every τ.
        """
        rows = in_rows(theta)
        chosen = gumbel_max(rows, generator)[:, None]
        log_p = torch.log_softmax(rows, dim=-1).gather(1, chosen)
        one_hot = torch.zeros_like(rows).scatter(1, chosen, 1.0)
        return per_layer(one_hot * (1 + log_p - log_p.detach()), theta)

    def layer(self, candidates: Sequence[Block], x: Tensor, m: Tensor) -> Tensor:
        """Return y = b_k(x) for the chosen k alone."""
        return candidates[int(m.argmax())](x)
