"""From θ to one network: of several that P_θ makes likely, the one with the lowest loss on the θ split."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from fbsearch.costs import AdditiveCost
from fbsearch.search import Mean, Search, epoch_generator, one_hot
from fbsearch.select import most_probable
from fbsearch.settings import TARGET_SHARE

MAX_DRAWS = 1000


@dataclass(frozen=True, slots=True)
class Candidate:
    """A network and what the supernet's weights say of it on the θ split."""

    choices: tuple[str, ...]
    cost: float
    loss: float
    accuracy_percent: float


def derive(search: Search) -> list[Candidate]:
    """Return the candidates, best first: `samples` + 1 distinct networks, fewer where there are no more.

    The paper trains every draw from scratch; here the supernet's weights rank them by the loss of the search, with
    each network's own batch statistics.
    """
    choices = _drawn(search) if search.settings.target_ms is None else _within_target(search)
    return sorted((_judge(search, each) for each in choices), key=lambda candidate: candidate.loss)


def _drawn(search: Search) -> list[tuple[int, ...]]:
    """Return the most probable network and distinct draws from P_θ, fewer where P_θ is nearly certain."""
    probabilities = search.net.probabilities()
    generator = epoch_generator(search.settings.seed, "derive", 0)
    drawn = {tuple(int(p.argmax()) for p in probabilities): None}
    for _ in range(MAX_DRAWS):
        if len(drawn) > search.settings.samples:
            break
        drawn[tuple(int(torch.multinomial(p, 1, generator=generator)) for p in probabilities)] = None
    return list(drawn)


def _within_target(search: Search) -> list[tuple[int, ...]]:
    """Return the most probable networks of 97 to 100 % of the target; if there are none, the most probable below it."""
    assert isinstance(search.cost, AdditiveCost)  # the pipeline has refused a target for any other cost
    log_p = [torch.log_softmax(theta_l.detach().double(), dim=-1).tolist() for theta_l in search.theta]
    target_us, count = search.settings.target_us, search.settings.samples + 1
    near = most_probable(log_p, search.cost, TARGET_SHARE * target_us, target_us, count)
    return near or most_probable(log_p, search.cost, 0.0, target_us, count)


@torch.no_grad()
def _judge(search: Search, choices: tuple[int, ...]) -> Candidate:
    counts = [len(theta) for theta in search.theta]
    cost = search.cost([one_hot(choice, count) for choice, count in zip(choices, counts, strict=True)])
    mean = Mean()
    for x, y in search.data.batches(search.data.theta, search.settings.batch, limit=search.settings.steps):
        logits = search.net.path(x, choices)
        cross_entropy = F.cross_entropy(logits, y)
        mean.add(search.loss(cross_entropy, cost, search.settings), cross_entropy, logits, y)
    return Candidate(
        choices=tuple(
            list(layer.candidates)[choice] for layer, choice in zip(search.space.layers, choices, strict=True)
        ),
        cost=float(cost),
        loss=mean.values()["loss"],
        accuracy_percent=mean.values()["accuracy_percent"],
    )
