"""The gradient of E[L] in θ from the losses of several networks on the same images, without one of the network itself.

    ∇ E_{a ~ P_θ}[L(a)] = E[(L(a) − b) · ∇ log P_θ(a)],    log P_θ(a) = Σ_l log P_θ(a_l)

The baseline b is the mean loss of the other networks (leave-one-out; Kool et al., 2019). It does not depend on a, so
the expectation is exact, and what all of them have in common, such as how hard the images are, cancels.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def with_score(losses: Sequence[Tensor], samples: Sequence[Sequence[Tensor]]) -> Tensor:
    """Return the mean loss of two networks or more, with that gradient added to the one it has.

    The samples are one-hot and carry the gradient of log P_θ, as `single-path` draws them.
    """
    values = torch.stack([loss.detach() for loss in losses])
    baseline = (values.sum() - values) / (len(values) - 1)
    chosen = torch.stack([torch.stack([m_l.sum() for m_l in m]).sum() for m in samples])  # ∇ chosen = ∇ log P_θ(a)
    chosen = chosen.to(values.device)  # θ is on the CPU
    return torch.stack(list(losses)).mean() + ((values - baseline) * (chosen - chosen.detach())).mean()
