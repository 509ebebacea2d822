"""What a step of gradient descent needs around it: the look at its loss, and the scale of float16."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from fbsearch.errors import DivergedError

GROWTH_STEPS = 2000
START = 2.0**16

UNCHECKED_STEPS = 16
"""Steps on a GPU between two looks at the losses; a look at every one would keep it waiting."""


@dataclass(slots=True)
class Losses:
    """Losses not yet looked at, each with its step in words, its learning rate and the option that sets this."""

    unchecked: list[tuple[Tensor, str, float, str]] = field(default_factory=list)

    def add(self, loss: Tensor, where: str, lr: float, option: str) -> None:
        """Add one; look at it now where that waits for nothing. Raises DivergedError."""
        self.unchecked.append((loss, where, lr, option))
        if loss.device.type == "cpu" or len(self.unchecked) >= UNCHECKED_STEPS:
            self.look()

    def look(self) -> None:
        """Raise DivergedError for the first loss that is not finite, of those not looked at so far."""
        unchecked, self.unchecked = self.unchecked, []
        if not unchecked:
            return
        losses = torch.stack([loss.to(unchecked[0][0]) for loss, *_ in unchecked]).tolist()
        for loss, (_, where, lr, option) in zip(losses, unchecked, strict=True):
            if not math.isfinite(loss):
                raise DivergedError(
                    f"the loss became {loss} in {where} at learning rate {lr:.3g}; "
                    f"start over with a lower {option} and --fresh"
                )


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

    def load(self, value: float, good_steps: int) -> None:
        """Continue with a scale that was saved; in another precision it stays one."""
        if self.adapts:
            self.value, self.good_steps = value, good_steps

    def backward(self, loss: Tensor) -> None:
        """Compute the gradients of the scaled loss."""
        (loss * self.value if self.adapts else loss).backward()  # type: ignore[no-untyped-call]

    def unscale(self, parameters: Iterable[Tensor]) -> None:
        """Divide the gradients by the scale; drop all of them on overflow, so that the optimizer step is a no-op."""
        if not self.adapts:
            return
        learned = [p for p in parameters if p.grad is not None]
        gradients = [p.grad for p in learned if p.grad is not None]
        norms = torch.stack([norm.float() for norm in torch._foreach_norm(gradients, float("inf"))])
        finite = bool(norms.isfinite().all())
        for gradient in gradients:
            gradient /= self.value
        self.good_steps = self.good_steps + 1 if finite else 0
        if not finite:
            self.value /= 2
            for parameter in learned:
                parameter.grad = None
        elif self.good_steps == GROWTH_STEPS:
            self.value, self.good_steps = 2 * self.value, 0
