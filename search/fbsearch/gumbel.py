"""Gumbel-softmax: a differentiable draw of one candidate (Jang et al., ICLR'17; FBNet, section 3.3)."""

import torch
from torch import Tensor


def gumbel_softmax(theta: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
    """Return a sample m of the relaxed categorical distribution with logits θ; the last dimension sums to one.

        m_i = exp((θ_i + g_i) / τ) / Σ_j exp((θ_j + g_j) / τ),    g_i ~ Gumbel(0, 1)

    At low τ the sample is nearly one-hot and its largest element is i with probability softmax(θ)_i; at high τ it is
    nearly uniform.
    """
    return torch.softmax((theta + gumbel(theta, generator)) / temperature, dim=-1)


def gumbel_max(theta: Tensor, generator: torch.Generator) -> Tensor:
    """Return the index argmax_i(θ_i + g_i): i with probability softmax(θ)_i, and gumbel_softmax's largest element."""
    return (theta.detach() + gumbel(theta, generator)).argmax(dim=-1)


def gumbel(theta: Tensor, generator: torch.Generator) -> Tensor:
    """Return noise g ~ Gumbel(0, 1) of the shape of θ."""
    return -torch.empty_like(theta, requires_grad=False).exponential_(generator=generator).log()
