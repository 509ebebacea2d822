"""All layers at once: vectors of several lengths, one per layer, as the rows of a matrix, and back."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence


def in_rows(theta: Sequence[Tensor], fill: float = -math.inf) -> Tensor:
    """Return one row per layer, filled up (θ: with what is never drawn) where a layer has fewer candidates."""
    return pad_sequence(list(theta), batch_first=True, padding_value=fill)


def per_layer(rows: Tensor, theta: Sequence[Tensor]) -> list[Tensor]:
    """Return one vector per layer, as long as that of θ."""
    return [row[: len(theta_l)] for row, theta_l in zip(rows.unbind(), theta, strict=True)]


def softmax(theta: Sequence[Tensor]) -> list[Tensor]:
    """Return P_θ per layer, softmax(θ_l)."""
    return per_layer(torch.softmax(in_rows(theta), dim=-1), theta)
