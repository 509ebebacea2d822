"""Skip held: for the first θ steps P_θ(skip) stays, as skip has no weights to learn and so looks good early."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from fbsearch.theta import in_rows


def hold_skip(theta: Sequence[Tensor], skips: Sequence[Tensor]) -> Callable[[], None]:
    """Remember P_θ(skip) of every layer; the callback that is returned puts it back by a change of θ at skip alone.

    `skips` marks the candidates of every layer that are skip. The other candidates keep the odds among themselves.
    """
    before = _odds(theta, skips)

    @torch.no_grad()
    def put_back() -> None:
        shifts = _odds(theta, skips) - before
        for theta_l, skip, shift in zip(theta, skips, shifts.unbind(), strict=True):
            theta_l[skip] += shift

    return put_back


def _odds(theta: Sequence[Tensor], skips: Sequence[Tensor]) -> Tensor:
    """Return log (P(others) / P(skip)) of every layer; not finite where a layer has only one of the two."""
    rows, marked = in_rows([theta_l.detach() for theta_l in theta]), in_rows(skips, fill=False)
    return torch.where(marked, -math.inf, rows).logsumexp(1) - torch.where(marked, rows, -math.inf).logsumexp(1)
