"""One step of gradient descent of the search, and the scale that keeps float16's small gradients from becoming zero."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

GROWTH_STEPS = 2000
START = 2.0**16


@dataclass(slots=True)
class LossScale:
    """What a loss is multiplied by before its gradients are computed in float16 (Micikevicius et al., ICLR'18).

    A step whose gradients overflow is left out, and halves the scale; GROWTH_STEPS good ones in turn double it. In
    other precisions it is one and stays so. (torch's GradScaler wants all parameters on the GPU, and θ is on the CPU.)
    """

    value: float = 1.0
    good_steps: int = 0
    adapts: bool = False

    @classmethod
    def of(cls, amp: str) -> "LossScale":
        """Return the scale for a precision."""
        return cls(START, adapts=True) if amp == "fp16" else cls()

    def divide(self, gradients: list[Tensor]) -> bool:
        """Take the scale out of gradients, and return whether they are finite."""
        if not self.adapts:
            return True
        norms = torch.stack([norm.float() for norm in torch._foreach_norm(gradients, float("inf"))])
        finite = bool(norms.isfinite().all())
        for gradient in gradients:
            gradient /= self.value
        self.good_steps = self.good_steps + 1 if finite else 0
        if not finite:
            self.value /= 2
        elif self.good_steps == GROWTH_STEPS:
            self.value, self.good_steps = 2 * self.value, 0
        return finite


def descend(loss: Tensor, optimizer: torch.optim.Optimizer, scale: LossScale, prepare: Callable[[], None]) -> None:
    """Take one step and leave no gradients behind.

    `prepare` is called when the gradients are there, and may change them, or raise: then no step is taken.
    """
    optimizer.zero_grad(set_to_none=True)
    (loss * scale.value if scale.adapts else loss).backward()  # type: ignore[no-untyped-call]
    prepare()
    gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    if scale.divide(gradients):
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
