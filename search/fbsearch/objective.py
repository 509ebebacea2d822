"""Objective: what one θ is learned for, a cost (of one device) and perhaps a target; weights w are shared by all."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fbsearch.costs import Cost
from fbsearch.losses import Loss, Weighing, is_controlled, takes_expected_cost
from fbsearch.settings import Settings

CONTROL_RATE = 0.1
"""How much of the relative error E[LAT] / target − 1, times λ, the multiplier μ takes up in a θ step."""
MULTIPLIER_BOUND = 10.0
"""μ stays within this many λ, so that a target that θ cannot come near does not wind it up."""


@dataclass(slots=True)
class Objective:
    """The architecture parameters θ of one cost and target, with their optimiser and the controller's multiplier μ.

    θ holds one vector of logits per layer, zero at first (uniform P_θ); P_θ = softmax(θ). `held` marks in each layer
    the candidates that neither gain nor lose while skip is held.
    """

    name: str
    cost: Cost
    target: float | None
    loss: Loss
    theta: nn.ParameterList
    optimizer: torch.optim.Adam
    held: list[Tensor]
    settings: Settings
    multiplier: float = 0.0

    @classmethod
    def of(
        cls, name: str, cost: Cost, target: float | None, loss: Loss, skips: list[list[bool]], settings: Settings
    ) -> "Objective":
        """Make the objective of a space whose layers have the candidates that `skips` marks."""
        theta = nn.ParameterList(torch.zeros(len(layer)) for layer in skips)
        adam = torch.optim.Adam(theta, settings.theta_lr, weight_decay=settings.theta_weight_decay)
        return cls(name, cost, target, loss, theta, adam, [torch.tensor(layer) for layer in skips], settings)

    def weigh(self, cross_entropy: Tensor, m: list[Tensor]) -> Tensor:
        """Return the loss of a step: of the sample m, or of the expected cost under softmax(θ) where it asks for it."""
        priced = [torch.softmax(theta_l, dim=-1) for theta_l in self.theta] if takes_expected_cost(self.loss) else m
        return self.loss.loss(cross_entropy, self.cost(priced), self.weighing)

    @property
    def weighing(self) -> Weighing:
        """The numbers that the loss weighs with now."""
        settings = self.settings
        return Weighing(settings.alpha, settings.beta, settings.latency_weight, self.multiplier, self.target)

    def probabilities(self) -> list[Tensor]:
        """Return P_θ per layer, softmax(θ_l), without gradient."""
        return [torch.softmax(theta_l.detach(), dim=-1) for theta_l in self.theta]

    @torch.no_grad()
    def hold_skip(self) -> None:
        """Between gradient and step: keep skip at the mean of its layer's other candidates.

        It is drawn as often as they are, and neither gains nor loses against them.
        """
        for theta_l, skip in zip(self.theta, self.held, strict=True):
            if skip.any() and not skip.all():
                theta_l[skip] = theta_l[~skip].mean()
                assert theta_l.grad is not None
                theta_l.grad[skip] = 0.0

    @torch.no_grad()
    def control(self) -> None:
        """Move μ by the error that is left: μ ← μ + λ · rate · log(E[LAT] / target)."""
        if self.target is None or not is_controlled(self.loss):
            return
        weight = self.settings.latency_weight
        error = (self.cost(self.probabilities()) / self.target).log().item()
        bound = MULTIPLIER_BOUND * weight
        self.multiplier = min(max(self.multiplier + CONTROL_RATE * weight * error, -bound), bound)

    def state(self) -> dict[str, Any]:
        """Return everything the next step depends on."""
        theta = [theta_l.detach().clone() for theta_l in self.theta]
        return {"theta": theta, "optimizer": self.optimizer.state_dict(), "multiplier": self.multiplier}

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from what `state` returned."""
        with torch.no_grad():
            for theta_l, value in zip(self.theta, state["theta"], strict=True):
                theta_l.copy_(value)
        self.optimizer.load_state_dict(state["optimizer"])
        self.multiplier = state["multiplier"]
