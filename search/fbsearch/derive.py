"""From θ to one network: draw several from P_θ and keep the one with the lowest loss on the θ split."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from fbsearch.search import Mean, Search, epoch_generator, one_hot

MAX_DRAWS = 1000


@dataclass(frozen=True, slots=True)
class Candidate:
    """A network drawn from P_θ and what the supernet's weights say of it on the θ split."""

    choices: tuple[str, ...]
    cost: float
    loss: float
    accuracy_percent: float


def derive(search: Search) -> list[Candidate]:
    """Return the candidates, best first: the most probable network and up to `samples` distinct draws from P_θ.

    The paper trains every draw from scratch; here the supernet's weights rank them by the loss of the search, with
    each network's own batch statistics. Fewer come back where P_θ is nearly certain.
    """
    probabilities = search.net.probabilities()
    generator = epoch_generator(search.settings.seed, "derive", 0)
    drawn = {tuple(int(p.argmax()) for p in probabilities): None}
    for _ in range(MAX_DRAWS):
        if len(drawn) > search.settings.samples:
            break
        drawn[tuple(int(torch.multinomial(p, 1, generator=generator)) for p in probabilities)] = None
    return sorted((_judge(search, choices) for choices in drawn), key=lambda candidate: candidate.loss)


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
