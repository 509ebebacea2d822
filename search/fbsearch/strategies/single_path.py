"""single-path: one candidate per layer runs, drawn from P_θ; θ learns from the losses of several such networks."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fbsearch.gumbel import gumbel_max

ONE_PATH = True

NETWORKS = 2
"""Networks that are compared in a step of θ (`fbsearch.score`); it runs them forwards only, so that is a step's work.

A gradient straight through the candidate that ran, ⟨∂L/∂y, b_k(x)⟩, takes one network, but is blind before convolution
→ batch normalisation, to which the scale of y is nothing: layers that change the shape would see the latency alone.
"""


def sample(theta: Sequence[Tensor], temperature: float, generator: torch.Generator) -> list[Tensor]:
    """Draw k_l ~ P_θ for every layer l; m_l is one-hot in value, and only its element k has a gradient.

        m_k = 1,    ∇_θ m_k := ∇_θ log P_θ(k),    P_θ = softmax(θ)

    Draws are those of P_θ at every τ.
    """
    return [_draw(theta_l, generator) for theta_l in theta]


def _draw(theta_l: Tensor, generator: torch.Generator) -> Tensor:
    one_hot = F.one_hot(gumbel_max(theta_l, generator), len(theta_l)).to(theta_l)
    log_p = torch.log_softmax(theta_l, dim=-1)
    return one_hot * (1 + log_p - log_p.detach())


def layer(candidates: nn.ModuleList, x: Tensor, m: Tensor) -> Tensor:
    """Return y = b_k(x) for the chosen k alone."""
    y: Tensor = candidates[int(m.argmax())](x)
    return y
