"""Gumbel-softmax: a differentiable draw of one candidate (Jang et al., ICLR'17; FBNet, section 3.3)."""

import torch
from torch import Tensor


def gumbel_softmax(theta: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
    """Return a sample m of the relaxed categorical distribution with logits θ; the last dimension sums to one.

        m_i = exp((θ_i + g_i) / τ) / Σ_j exp((θ_j + g_j) / τ),    g_i ~ Gumbel(0, 1)

    At low τ the sample is nearly one-hot and its largest element is i with probability softmax(θ)_i; at high τ it is
    nearly uniform.
    """
    g = -torch.empty_like(theta, requires_grad=False).exponential_(generator=generator).log()
    return torch.softmax((theta + g) / temperature, dim=-1)
