"""The gradient of E[L] in θ from the losses of several networks on the same images, without one of the network itself.

    ∇ E_{a ~ P_θ}[L(a)] = E[(L(a) − V(a) − b) · ∇ log P_θ(a)] + ∇ E[V(a)],    log P_θ(a) = Σ_l log P_θ(a_l)

V(a) = Σ_l v_l(a_l) estimates the loss and takes away what is known of it (a control variate): its own expectation,
Σ_l P_θ,l · v_l, has an exact gradient. The baseline b is the mean of L − V over the other networks (leave-one-out;
Kool et al., 2019). Neither depends on the draw of a, so the expectation is exact whatever v is, and what all networks
have in common, such as how hard the images are, cancels.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

MEMORY_STEPS = 2000
"""Steps after which what was learned of a network counts 1/e: w changes, and so does what θ makes likely."""
RIDGE = 1.0
"""How many comparisons speak for v = 0, which it stays where nothing was compared."""


class Estimate:
    """v, the least-squares fit to what networks lost on the same images, more or less than their mean."""

    def __init__(self, counts: Sequence[int]) -> None:
        """Know nothing, v = 0, of layers with so many candidates each."""
        size = sum(counts)
        self._counts = list(counts)
        self._v = torch.zeros(size, dtype=torch.float64)
        self._moments = torch.zeros(size, dtype=torch.float64)
        self._products = torch.zeros(size, size, dtype=torch.float64)

    def __call__(self, m: Sequence[Tensor]) -> Tensor:
        """Return Σ_l m_l · v_l: V of a network, or its expectation under probabilities."""
        value: Tensor = torch.cat(list(m)).double() @ self._v
        return value

    def per_layer(self) -> list[Tensor]:
        """Return v_l of every layer."""
        return list(torch.split(self._v, self._counts))

    def learn(self, losses: Tensor, samples: Sequence[Sequence[Tensor]]) -> None:
        """Learn from networks and their losses on the same images; nothing from losses that are not finite."""
        if not losses.isfinite().all():
            return
        chosen = torch.stack([torch.cat(list(m)).detach() for m in samples]).double()
        chosen, losses = chosen - chosen.mean(0), losses.double() - losses.double().mean()
        kept = 1 - 1 / MEMORY_STEPS
        self._products.mul_(kept).addmm_(chosen.T, chosen)
        self._moments.mul_(kept).addmv_(chosen.T, losses)
        factor = torch.linalg.cholesky(self._products + RIDGE * torch.eye(len(self._v), dtype=torch.float64))
        self._v = torch.cholesky_solve(self._moments[:, None], factor)[:, 0]

    def state(self) -> dict[str, Any]:
        """Return everything that was learned."""
        return {"v": self._v.clone(), "moments": self._moments.clone(), "products": self._products.clone()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from what `state` returned."""
        self._v, self._moments, self._products = (state[name].clone() for name in ("v", "moments", "products"))


def with_score(losses: Tensor, samples: Sequence[Sequence[Tensor]], p: Sequence[Tensor], estimate: Estimate) -> Tensor:
    """Return the mean loss of two networks or more, with that gradient added to the one it has.

    The samples are one-hot and carry the gradient of log P_θ, as `single-path` draws them; p is P_θ.
    """
    values = losses.detach().cpu()  # θ is on the CPU
    drawn = torch.stack([torch.cat(list(m)) for m in samples])
    # what all networks have in common has no gradient, and the rounding of zero would be a whole step to Adam
    chosen = (drawn * (drawn.detach() != drawn[0].detach()).any(0)).sum(1)  # ∇ chosen = ∇ log P_θ(a)
    unknown = values - torch.stack([estimate(m).detach() for m in samples])
    baseline = (unknown.sum() - unknown) / (len(values) - 1)
    score = ((unknown - baseline) * chosen).mean() + estimate(p)
    loss = losses.mean()
    return loss + (score - score.detach()).to(loss)
