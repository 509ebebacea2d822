"""Masks: many widths in one convolution, many resolutions in one feature map (FBNetV2, CVPR'20, section 3).

g is a Gumbel-softmax sample over the options of one decision, or one-hot; all is differentiable in it.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def masked(y: Tensor, g: Tensor, widths: Sequence[int]) -> Tensor:
    """Return y ∘ Σ_i g_i 1_i of N, C, H, W, where 1_i is 1 in the first widths[i] channels and 0 in the rest.

        Σ_i g_i b_i(x) = b(x) ∘ Σ_i g_i 1_i    (FBNetV2, equation 3)

    where b_i has the first widths[i] of the filters of b: one run and one feature map for all widths. b has as many as
    the largest. g may be on another device.
    """
    ones = torch.arange(max(widths), device=g.device) < torch.tensor(widths, device=g.device)[:, None]
    return y * (g @ ones.to(g.dtype)).to(y.device)[:, None, None]


def joint(*decisions: Tensor) -> Tensor:
    """Return the weights of all combinations of independent decisions, the last one's options closest together."""
    weights = decisions[0]
    for g in decisions[1:]:
        weights = torch.outer(weights, g).flatten()
    return weights


def same(p: Tensor, ins: Sequence[int], outs: Sequence[int]) -> Tensor:
    """Return Σ_{i: ins_i = outs_o} p_i for every o: how likely the width that goes out is the one that came in."""
    return p @ (torch.tensor(ins)[:, None] == torch.tensor(outs)).to(p)


def subsample(x: Tensor, side: int) -> Tensor:
    """Return the pixels of N, C, H, H that nearest-neighbour sampling to `side` takes: N, C, side, side."""
    at = _taken(x.shape[2], side, x.device)
    return x[:, :, at[:, None], at]


def intersperse(y: Tensor, side: int) -> Tensor:
    """Put N, C, s, s back where `subsample` takes it from: N, C, side, side, zero elsewhere."""
    at = _taken(side, y.shape[2], y.device)
    spread = y.new_zeros(*y.shape[:2], side, side)
    spread[:, :, at[:, None], at] = y
    return spread


def at_sides(run: Callable[[Tensor], Tensor], x: Tensor, g: Tensor, sides: Sequence[int], out: int | None) -> Tensor:
    """Return Σ_i g_i U(b(S_i(x))): subsample the map to every side, run b there, and put the results back.

    To pad the smaller results at the edge would pair pixels of different places, and a b that ran on an interspersed
    map would see zeros in place of neighbours (FBNetV2, figure 4). A side of weight zero is not run. The side of x is
    the largest, and b makes it `out`; None where b makes logits, which need not be put back.
    """
    results = []
    for g_i, side, weight in zip(g, sides, g.tolist(), strict=True):
        if weight:
            y = run(subsample(x, side))
            results.append(g_i.to(x.device) * (y if out is None else intersperse(y, out)))
    return torch.stack(results).sum(0)


def fit(x: Tensor, channels: int) -> Tensor:
    """Return a map with so many channels: zeros added, or channels dropped that no choice of this width uses."""
    return torch.nn.functional.pad(x[:, :channels], (0, 0, 0, 0, 0, max(0, channels - x.shape[1])))


def _taken(side: int, count: int, device: torch.device) -> Tensor:
    """Return which of `side` rows nearest-neighbour sampling takes for `count` of them: ⌊i · side / count⌋."""
    return torch.arange(count, device=device) * side // count
