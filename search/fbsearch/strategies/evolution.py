"""evolution: the supernet is trained on uniform paths, and networks near the target evolve under its weights."""

import random
from collections.abc import Sequence

import torch
from torch import Tensor

from fbsearch.strategies import Choices, LossOf, Sampler
from fbsearch.strategies.single_path import SinglePath

POPULATION_SHARE = 0.05
"""Share of the evaluations that are the first, random population (Single Path One-Shot, section 4: 50 of 1,000)."""
PARENTS_SHARE = 0.01
"""Share of all networks evaluated so far, the best, that have children (10 of 1,000 at the end)."""
MUTATION = 0.1
"""Probability, about, that a layer's candidate is not that of a parent (Single Path One-Shot, ECCV'20: 0.1)."""


class Evolution(SinglePath):
    """Evolution under the supernet's weights."""

    compares = 0  # there are no steps of θ

    def find(self, sampler: Sampler, loss: LossOf, layers: Sequence[int], evaluations: int, seed: int) -> list[Choices]:
        """Return all networks evaluated, the lowest loss first (Single Path One-Shot, section 3.4).

        A child takes each layer's candidate from one of two parents, or another one; it is sampled from the
        distribution that says so, among the networks near the target.
        """
        generator = random.Random(seed)
        population = max(2, round(POPULATION_SHARE * evaluations))
        uniform = [torch.zeros(count) for count in layers]
        losses: dict[Choices, float] = {}
        for turn in range(evaluations):
            theta = uniform if turn < population else _child(sorted(losses, key=losses.__getitem__), layers, generator)
            choices = sampler(theta)
            if choices is not None and choices not in losses:
                losses[choices] = loss(choices)
        return sorted(losses, key=losses.__getitem__)


def _child(ranked: list[Choices], layers: Sequence[int], generator: random.Random) -> list[Tensor]:
    """Return θ with which both parents' candidates are likely and the others together have probability MUTATION."""
    parents = ranked[: max(2, round(PARENTS_SHARE * len(ranked)))]
    mother, father = generator.choice(parents), generator.choice(parents)
    theta = []
    for count, pair in zip(layers, zip(mother, father, strict=True), strict=True):
        p = torch.full((count,), MUTATION / count)
        for choice in pair:
            p[choice] += (1 - MUTATION) / 2
        theta.append(p.log())
    return theta
