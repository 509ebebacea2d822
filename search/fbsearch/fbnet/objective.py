"""Objective: what one θ is learned for, a cost (of one device) and perhaps a target; weights w are shared by all."""

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fbsearch.beyond.score import Estimate
from fbsearch.beyond.target import tilt
from fbsearch.costs import ExpectedCost
from fbsearch.fbnet.settings import Settings
from fbsearch.losses import Loss
from fbsearch.strategies import STRATEGIES
from fbsearch.theta import in_rows, softmax

APPROACH = 0.5
"""Share of the steps of θ in which the expected cost goes from that of uniform P_θ to the target, geometrically."""


PRICE_RATE = 0.05
"""Share of a step's estimate in the average of the multiplier."""
SMALLEST = 1e-30
"""Keeps the estimate finite where P_θ is one network and no gradient is left."""


@dataclass(slots=True)
class Objective:
    """The architecture parameters θ of one cost and target, with their optimiser.

    θ holds one vector of logits per layer, zero at first (uniform P_θ); P_θ = softmax(θ). `skips` marks each layer's
    candidates that are skip. `multiplier` is the controller's last λ · target, `price` the λ that θ's gradient holds.
    `estimate` is there where a strategy compares networks.
    """

    name: str
    cost: ExpectedCost
    target: float | None
    loss: Loss
    theta: nn.ParameterList
    optimizer: torch.optim.Adam
    skips: list[Tensor]
    settings: Settings
    start: float
    multiplier: float = 0.0
    price: float = 0.0
    estimate: Estimate | None = None

    @classmethod
    def of(
        cls,
        name: str,
        cost: ExpectedCost,
        target: float | None,
        loss: Loss,
        skips: list[list[bool]],
        settings: Settings,
    ) -> "Objective":
        """Make the objective of a space whose layers have the candidates that `skips` marks."""
        theta = nn.ParameterList(torch.zeros(len(layer)) for layer in skips)
        adam = torch.optim.Adam(theta, settings.theta_lr, weight_decay=settings.theta_weight_decay)
        start = float(cost(softmax([theta_l.detach() for theta_l in theta])))
        compares = STRATEGIES.find(settings.strategy).compares > 0
        estimate = Estimate([len(layer) for layer in skips]) if compares else None
        objective = cls(
            name,
            cost,
            target,
            loss,
            theta,
            adam,
            [torch.tensor(layer) for layer in skips],
            settings,
            start,
            estimate=estimate,
        )
        adam.register_step_pre_hook(lambda *_: objective.charge())
        return objective

    def weigh(self, cross_entropy: Tensor, m: list[Tensor]) -> Tensor:
        """Return the loss of a step: of the sample m, or of the expected cost under softmax(θ) where it asks for it."""
        priced = softmax(list(self.theta)) if self.loss.expected_cost else m
        return self.loss_of(cross_entropy, self.cost(priced))

    def charge(self) -> None:
        """Make the gradient that of the Lagrangian, L + λ · E[cost] / target, where the cost is held at the target.

        λ is the least-squares estimate of the multiplier, that which leaves least of the gradient along the
        constraint (Nocedal and Wright, Numerical Optimization, equation 18.21), averaged over steps. Adam scales each
        element of the gradient by itself: were loss and latency weighed after it, as the controller does alone, what
        a layer is worth would be lost and only its latency count.
        """
        if self.target is None or not self.loss.controlled:
            return
        theta = list(self.theta)
        slopes = torch.autograd.grad(self.cost(softmax(theta)) / self.target, theta)
        gradients = [theta_l.grad for theta_l in theta if theta_l.grad is not None]
        all_slopes = torch.cat(slopes)
        along, length = float(torch.cat(gradients) @ all_slopes), float(all_slopes @ all_slopes)
        self.price += PRICE_RATE * (-along / max(length, SMALLEST) - self.price)
        for g, c in zip(gradients, slopes, strict=True):
            g += self.price * c

    def loss_of(self, cross_entropy: Tensor, cost: Tensor) -> Tensor:
        """Return the loss of a network with this cost."""
        return self.loss.weigh(cross_entropy, cost, math.nan if self.target is None else self.target)

    def probabilities(self) -> list[Tensor]:
        """Return P_θ per layer, softmax(θ_l), without gradient."""
        return softmax([theta_l.detach() for theta_l in self.theta])

    @contextlib.contextmanager
    def holding_skip(self, hold: bool) -> Iterator[None]:
        """Take a step of θ that, with `hold`, leaves P_θ(skip) as it is and moves the other candidates alone."""
        before = self._odds() if hold else None
        yield
        if before is not None:
            with torch.no_grad():
                for theta_l, skip, shift in zip(self.theta, self.skips, (self._odds() - before).unbind(), strict=True):
                    theta_l[skip] += shift

    def _odds(self) -> Tensor:
        """Return log (P(others) / P(skip)) of every layer; what is not finite where a layer has only one of the two."""
        rows, skips = in_rows([theta_l.detach() for theta_l in self.theta]), in_rows(self.skips, fill=False)
        return torch.where(skips, -math.inf, rows).logsumexp(1) - torch.where(skips, rows, -math.inf).logsumexp(1)

    def control(self, progress: float) -> None:
        """Put θ where E[cost] is the target, where the loss asks for that; `progress` 0 … 1 is how much is done."""
        if self.target is not None and self.loss.controlled:
            done = min(progress / APPROACH, 1.0)
            self.multiplier = tilt(list(self.theta), self.cost, self.start ** (1 - done) * self.target**done)

    def state(self) -> dict[str, Any]:
        """Return everything the next step depends on."""
        theta = [theta_l.detach().clone() for theta_l in self.theta]
        return {
            "theta": theta,
            "optimizer": self.optimizer.state_dict(),
            "multiplier": self.multiplier,
            "price": self.price,
        } | ({} if self.estimate is None else {"estimate": self.estimate.state()})

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from what `state` returned."""
        with torch.no_grad():
            for theta_l, value in zip(self.theta, state["theta"], strict=True):
                theta_l.copy_(value)
        self.optimizer.load_state_dict(state["optimizer"])
        self.multiplier = state["multiplier"]
        self.price = state["price"]
        if self.estimate is not None:
            self.estimate.load_state(state["estimate"])
