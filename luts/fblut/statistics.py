"""Statistics of tables: rank correlations, and Student's quantiles, by which intervals of few values are wide."""

import functools
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


@functools.lru_cache(maxsize=1024)
def student_quantile(freedom: int, probability: float) -> float:
    """Return the quantile of Student's distribution with whole degrees of freedom; the probability is above 0.5.

    For whole degrees the probability that |t| is below √freedom · tan θ is a sum (Abramowitz and Stegun, 26.7.3 and 4),
    which grows with θ: half of what is possible is left away until nothing is.
    """
    odd = freedom % 2
    k = np.arange(1, (freedom - odd) // 2)
    terms = np.cumprod(np.concatenate([[1.0], 2 * k / (2 * k + 1) if odd else (2 * k - 1) / (2 * k)]))
    powers = 2 * np.arange(len(terms)) + odd
    low, high = 0.0, math.pi / 2
    while low < (angle := (low + high) / 2) < high:
        within = math.sin(angle) * float(terms @ math.cos(angle) ** powers) if freedom > 1 else 0.0
        if odd:
            within = (angle + within) * 2 / math.pi
        low, high = (angle, high) if within < 2 * probability - 1 else (low, angle)
    return math.sqrt(freedom) * math.tan(angle)


def _is_defined(x: Sequence[float], y: Sequence[float]) -> bool:
    return len(x) >= 3 and len(set(x)) > 1 and len(set(y)) > 1


def _ranks(values: Sequence[float]) -> NDArray[np.float64]:
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    mean_rank: NDArray[np.float64] = (np.cumsum(count) - (count - 1) / 2)[place]
    return mean_rank
