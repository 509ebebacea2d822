"""From θ to one network: of several that P_θ makes likely, the best on the validation split, which no step has seen."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from fbsearch.beyond.exact import most_probable
from fbsearch.costs import StepCost
from fbsearch.fbnet.objective import Objective
from fbsearch.fbnet.search import Search
from fbsearch.fbnet.settings import TARGET_SHARE
from fbsearch.images.split import Split
from fbsearch.machine.compute import channels_last
from fbsearch.machine.metrics import Mean
from fbsearch.machine.seeds import generator_of
from fbsearch.strategies import Choices
from fbsearch.theta import gumbel, one_hot

MAX_SAMPLES = 1000
NORM_BATCHES = 8
"""Batches of the w split on which a network's batch normalisation is estimated before it is evaluated."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A network and what the supernet's weights say of it on the validation split."""

    choices: tuple[str, ...]
    cost: float
    loss: float
    accuracy_percent: float


def derive(search: Search, objective: Objective, count: int, seed_name: str = "derive") -> list[Candidate]:
    """Return `count` distinct networks for an objective, best first; fewer where there are no more.

    The most probable one and samples of P_θ, with the one that loses least by the estimate where a strategy compares
    networks; or what a strategy without θ finds on the θ split. With a target, only networks of 97 to 100 % of it, or
    below it where there are none. The paper trains every sample from scratch; here the supernet's weights rank them by
    the loss of the search.
    """
    networks = Networks(search, objective, generator_of(search.settings.seed, f"{seed_name}/{objective.name}"))
    if not search.strategy.learns_theta:
        settings, layers = search.settings, [len(theta_l) for theta_l in objective.theta]

        def loss(choices: Choices) -> float:
            return evaluate_inherited(search, objective, choices, search.data.theta).loss

        found = search.strategy.find(networks.sample, loss, layers, settings.evaluations, settings.seed)[:count]
    else:
        estimate = objective.estimate
        estimated = [] if estimate is None else networks.likely([-v_l for v_l in estimate.per_layer()], 1)
        found = list(dict.fromkeys([*estimated, *networks.likely(list(objective.theta), count)]))[:count]
    space, split = search.space, search.data.validation
    # The first choices of every network: where a layer is skip, its expansion is nothing.
    distinct = {tuple(space.all_specs(space.names(choices))): choices for choices in reversed(found)}.values()
    candidates = [evaluate_inherited(search, objective, choices, split) for choices in found if choices in distinct]
    return sorted(candidates, key=lambda candidate: candidate.loss)


class Networks:
    """Candidate networks of an objective. With a target, only those that cost 97 to 100 % of it."""

    def __init__(self, search: Search, objective: Objective, generator: torch.Generator) -> None:
        self.cost, self.high, self.generator = objective.cost, objective.target, generator
        self.low = 0.0 if self.high is None else TARGET_SHARE * self.high
        if self.high is not None and not self._most_probable([torch.zeros_like(t) for t in objective.theta]):
            self.low = 0.0

    def likely(self, theta: Sequence[Tensor], count: int) -> list[Choices]:
        """Return the most probable network, and distinct samples of P_θ."""
        likely = dict.fromkeys(self._most_probable(theta))
        for _ in range(MAX_SAMPLES):
            if len(likely) >= count:
                break
            sample = self.sample(theta)
            if sample is not None:
                likely[sample] = None
        return list(likely)

    def sample(self, theta: Sequence[Tensor]) -> Choices | None:
        """Sample a network: the most probable one of θ plus Gumbel noise, which without a target is a ~ P_θ exactly."""
        found = self._most_probable([theta_l.detach() + gumbel(theta_l, self.generator) for theta_l in theta])
        return found[0] if found else None

    def _most_probable(self, theta: Sequence[Tensor]) -> list[Choices]:
        if self.high is None:
            return [tuple(int(theta_l.argmax()) for theta_l in theta)]
        assert isinstance(self.cost, StepCost)  # the job has refused a target for any other cost
        log_p = [torch.log_softmax(theta_l.detach().double(), dim=-1).tolist() for theta_l in theta]
        return most_probable(log_p, self.cost, self.low, self.high)


@torch.no_grad()
def evaluate_inherited(search: Search, objective: Objective, choices: Choices, split: Split) -> Candidate:
    """Evaluate a network with the supernet's weights on a split, its batch normalisation estimated on the w split."""
    settings, data = search.settings, search.data
    order = generator_of(settings.seed, "batch normalisation")
    network = search.net.network(choices, (x for x, _ in data.batches(data.w, settings.batch, order, NORM_BATCHES)))
    cost = objective.cost([one_hot(i, len(theta_l)) for i, theta_l in zip(choices, objective.theta, strict=True)])
    mean = Mean()
    for x, y in data.batches(split, settings.batch, limit=settings.steps):
        logits = network(channels_last(x))
        cross_entropy = F.cross_entropy(logits, y)
        right = (logits.argmax(1) == y).sum()
        mean.add(len(y), (objective.loss_of(cross_entropy, cost), cross_entropy), (right,))
    loss, _, accuracy = mean.values()
    return Candidate(search.space.names(choices), float(cost), loss, 100 * accuracy)
