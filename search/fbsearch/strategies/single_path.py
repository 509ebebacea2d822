"""single-path: one candidate per layer runs, drawn from P_θ; its gradient reaches θ straight through the draw."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fbsearch.gumbel import gumbel_max


def sample(theta: Sequence[Tensor], temperature: float, generator: torch.Generator) -> list[Tensor]:
    """Draw k_l ~ P_θ for every layer l; m_l is one-hot in value, and only its element k has a gradient.

        m_k = 1,    ∇_θ m_k := ∇_θ log P_θ(k),    P_θ = softmax(θ)

    For whatever is linear in m, f(m) = Σ_i m_i · f_i, this gradient is exact in expectation though one f_i is known:

        E_k[f_k · ∇ log P_k] = Σ_k P_k · f_k · ∇ log P_k = ∇ Σ_k P_k · f_k

    The gradient of a softmax, ∇P_k = P_k · ∇ log P_k, would count a candidate P_k times too little, as it is run only
    with probability P_k, and cross-entropy would be lost beside the latency. Draws are those of P_θ at every τ.
    """
    return [_straight_through(theta_l, generator) for theta_l in theta]


def _straight_through(theta_l: Tensor, generator: torch.Generator) -> Tensor:
    one_hot = F.one_hot(gumbel_max(theta_l, generator), len(theta_l)).to(theta_l)
    log_p = torch.log_softmax(theta_l, dim=-1)
    return one_hot * (1 + log_p - log_p.detach())


def layer(candidates: nn.ModuleList, x: Tensor, m: Tensor) -> Tensor:
    """Return y = b_k(x) for the chosen k alone; θ receives ∂L/∂m_k = ⟨∂L/∂y, b_k(x) − c⟩.

    The baseline c is x where the layer keeps the shape, else zero. What is the same for all candidates does not change
    the expectation above, and x is what all of them pass on: without it a layer before convolution → batch
    normalisation, which is blind to the scale of y, would have ⟨∂L/∂y, y⟩ = 0 whatever the candidate.
    """
    k = int(m.argmax())
    y: Tensor = candidates[k](x)
    if not m.requires_grad:
        return y
    c = x if x.shape == y.shape else 0
    return y + (m[k] - 1) * (y - c).detach()
