"""Rank correlations: whether two series put the same things in the same order."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def spearman(x: Sequence[float], y: Sequence[float]) -> float | None:
    """Return Spearman's rank correlation (ties share their mean rank), None below 3 pairs or without variation."""
    return float(np.corrcoef(_ranks(x), _ranks(y))[0, 1]) if _is_defined(x, y) else None


def kendall(x: Sequence[float], y: Sequence[float]) -> float | None:
    """Return Kendall's τ-b, None below 3 pairs or without variation (Kendall, Biometrika 33, 1945)."""
    if not _is_defined(x, y):
        return None
    order_x, order_y = (np.sign(np.subtract.outer(values, values)) for values in (np.array(x), np.array(y)))
    return float(np.sum(order_x * order_y) / math.sqrt(np.sum(order_x**2) * np.sum(order_y**2)))


def _is_defined(x: Sequence[float], y: Sequence[float]) -> bool:
    return len(x) >= 3 and len(set(x)) > 1 and len(set(y)) > 1


def _ranks(values: Sequence[float]) -> NDArray[np.float64]:
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    mean_rank: NDArray[np.float64] = (np.cumsum(count) - (count - 1) / 2)[place]
    return mean_rank
