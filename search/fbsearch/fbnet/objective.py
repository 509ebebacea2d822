"""Objective: what one θ is learned for, a cost (of one device) and perhaps a target; weights w are shared by all."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fbsearch.beyond.score import Estimate
from fbsearch.beyond.target import approached, charge, tilt
from fbsearch.costs import ExpectedCost
from fbsearch.fbnet.settings import Settings
from fbsearch.losses import Loss
from fbsearch.strategies import STRATEGIES
from fbsearch.theta import softmax


class Objective:
    """The architecture parameters θ of one cost and target, with their optimizer.

    θ holds one vector of logits per layer, zero at first (uniform P_θ); P_θ = softmax(θ). `skips` marks each layer's
    candidates that are skip.
    """

    def __init__(
        self,
        name: str,
        cost: ExpectedCost,
        target: float | None,
        loss: Loss,
        skips: Sequence[Sequence[bool]],
        settings: Settings,
    ) -> None:
        """Begin with uniform P_θ. `target` has the unit of the cost."""
        self.name, self.cost, self.target, self.loss = name, cost, target, loss
        self.theta = nn.ParameterList(torch.zeros(len(layer)) for layer in skips)
        self.optimizer = torch.optim.Adam(self.theta, settings.theta_lr, weight_decay=settings.theta_weight_decay)
        self.skips = [torch.tensor(layer) for layer in skips]
        self.start = float(cost(self.probabilities()))
        self.multiplier = 0.0
        """λ · target of the last tilt."""
        self.price = 0.0
        """λ in θ's gradient."""
        compares = STRATEGIES.find(settings.strategy).compares > 0
        self.estimate = Estimate([len(layer) for layer in skips]) if compares else None

    def weigh(self, cross_entropy: Tensor, m: list[Tensor]) -> Tensor:
        """Return the loss of a step: of the sample m, or of the expected cost under softmax(θ) where it asks for it."""
        priced = softmax(list(self.theta)) if self.loss.expected_cost else m
        return self.loss_of(cross_entropy, self.cost(priced))

    def charge(self) -> None:
        """Charge the cost in θ's gradient, where the loss holds a target."""
        if self.target is not None and self.loss.controlled:
            self.price = charge(list(self.theta), self.cost, self.target, self.price)

    def tilt(self, progress: float) -> None:
        """Put θ where E[cost] is the target, where the loss holds one; `progress` 0 … 1 is how much is done."""
        if self.target is not None and self.loss.controlled:
            goal = approached(self.start, self.target, progress)
            self.multiplier = tilt(list(self.theta), self.cost, goal)

    def loss_of(self, cross_entropy: Tensor, cost: Tensor) -> Tensor:
        """Return the loss of a network with this cost."""
        return self.loss.weigh(cross_entropy, cost, math.nan if self.target is None else self.target)

    def probabilities(self) -> list[Tensor]:
        """Return P_θ per layer, softmax(θ_l), without gradient."""
        return softmax([theta_l.detach() for theta_l in self.theta])

    def state(self) -> dict[str, Any]:
        """Return everything the next step depends on."""
        theta = [theta_l.detach().clone() for theta_l in self.theta]
        numbers = {"multiplier": self.multiplier, "price": self.price}
        estimate = {} if self.estimate is None else {"estimate": self.estimate.state()}
        return {"theta": theta, "optimizer": self.optimizer.state_dict(), **numbers, **estimate}

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from what `state` returned."""
        with torch.no_grad():
            for theta_l, value in zip(self.theta, state["theta"], strict=True):
                theta_l.copy_(value)
        self.optimizer.load_state_dict(state["optimizer"])
        self.multiplier, self.price = state["multiplier"], state["price"]
        if self.estimate is not None:
            self.estimate.load_state(state["estimate"])
