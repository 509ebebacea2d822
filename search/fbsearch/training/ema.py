"""EMA: an exponential moving average of a network's weights, which often does better than the last of them."""

import copy
from typing import Any

import torch
from torch import Tensor, nn


class Ema:
    """A second network whose weights and batch-normalisation statistics are averages of the first one's.

    After t updates its value is (1 − d) · Σ_i d^(t−i) · w_i / (1 − d^t): the average of what was seen, without a share
    of the random weights of the beginning. Counters are copied.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay, self.updates = decay, 0
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        pairs = list(zip(_tensors(self.network), _tensors(network), strict=True))
        self._averaged = [pair for pair in pairs if pair[0].is_floating_point()]
        self._copied = [pair for pair in pairs if not pair[0].is_floating_point()]

    @torch.no_grad()
    def update(self) -> None:
        """Take the first network's weights as they are now into the average."""
        self.updates += 1
        share = (1 - self.decay) / (1 - self.decay**self.updates)
        torch._foreach_lerp_([mine for mine, _ in self._averaged], [other for _, other in self._averaged], share)
        for mine, other in self._copied:
            mine.copy_(other)

    def state(self) -> dict[str, Any]:
        """Return everything the next update depends on."""
        return {"updates": self.updates, "network": self.network.state_dict()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from what `state` returned."""
        self.updates = state["updates"]
        self.network.load_state_dict(state["network"])


def _tensors(network: nn.Module) -> list[Tensor]:
    return [*network.parameters(), *network.buffers()]
