"""One step of gradient descent of the search."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from fbsearch.errors import DivergedError


def descend(
    loss: Tensor,
    optimizer: torch.optim.Optimizer,
    where: str,
    option: str,
    prepare: Callable[[], None] = lambda: None,
) -> None:
    """Take one step and leave no gradients behind; `prepare` may change the gradients before it.

    Raises DivergedError for a loss that is not finite, naming the step (`where`) and the option to lower.
    """
    if not math.isfinite(loss.item()):
        raise DivergedError(
            f"the loss became {loss.item()} in {where} at learning rate "
            f"{optimizer.param_groups[0]['lr']:.3g}; start over with a lower {option} and --fresh"
        )
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    prepare()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
