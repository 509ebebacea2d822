"""Architecture parameters θ: P_θ = softmax(θ_l) per layer, Gumbel-softmax samples of it (FBNet, section 3.3).

θ is a vector of logits for each layer. Vectors of several lengths are computed with as the rows of one matrix.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence


def softmax(theta: Sequence[Tensor]) -> list[Tensor]:
    """Return P_θ per layer, softmax(θ_l)."""
    return per_layer(torch.softmax(in_rows(theta), dim=-1), theta)


def gumbel_softmax(theta: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
    """Return a sample m of the relaxed categorical distribution with logits θ; the last dimension sums to one.

        m_i = exp((θ_i + g_i) / τ) / Σ_j exp((θ_j + g_j) / τ),    g_i ~ Gumbel(0, 1)

    At low τ the sample is nearly one-hot and its largest element is i with probability softmax(θ)_i; at high τ it is
    nearly uniform (Jang et al., ICLR'17).
    """
    return torch.softmax((theta + gumbel(theta, generator)) / temperature, dim=-1)


def gumbel_max(theta: Tensor, generator: torch.Generator) -> Tensor:
    """Return the index argmax_i(θ_i + g_i): i with probability softmax(θ)_i, and gumbel_softmax's largest element."""
    return (theta.detach() + gumbel(theta, generator)).argmax(dim=-1)


def gumbel(theta: Tensor, generator: torch.Generator) -> Tensor:
    """Return noise g ~ Gumbel(0, 1) of the shape of θ."""
    return -torch.empty_like(theta, requires_grad=False).exponential_(generator=generator).log()


def one_hot(choice: int, count: int) -> Tensor:
    """Return the weights m that choose one candidate."""
    return F.one_hot(torch.tensor(choice), count).float()


def in_rows(theta: Sequence[Tensor], fill: float = -math.inf) -> Tensor:
    """Return one row per layer, padded where a layer has fewer candidates (logits of -inf are never sampled)."""
    return pad_sequence(list(theta), batch_first=True, padding_value=fill)


def per_layer(rows: Tensor, theta: Sequence[Tensor]) -> list[Tensor]:
    """Return one vector per layer, as long as that of θ."""
    return [row[: len(theta_l)] for row, theta_l in zip(rows.unbind(), theta, strict=True)]
