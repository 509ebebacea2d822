"""Several costs in one, each by its share: `lut+0.5*params`."""

import functools
from collections.abc import Sequence

import torch
from torch import Tensor

from fbsearch.costs._additive import Edge, Step, StepCost
from fbspace.space import Space


class CombinedCost:
    """Σ_j w_j · cost_j(a) / cost_j(uniform), in percent of Σ_j w_j: costs of other units count by their share.

    Uniform is the expectation under P_θ of the start, in which all options are as likely.
    """

    unit = "% of uniform"

    def __init__(self, space: Space, parts: Sequence[tuple[float, StepCost]]) -> None:
        uniform = [torch.full((len(d.options),), 1 / len(d.options)) for d in space.decisions]
        total = sum(weight for weight, _ in parts)
        self.parts = [(100 * weight / total / float(cost(uniform)), cost) for weight, cost in parts]

    def __call__(self, m: Sequence[Tensor]) -> Tensor:
        """Return the expected cost under the weights m."""
        return torch.stack([factor * cost(m) for factor, cost in self.parts]).sum()

    @functools.cached_property
    def steps(self) -> list[Step]:
        """The steps of the parts, which are the same but for what they cost."""
        factors = [factor for factor, _ in self.parts]
        return [
            [
                [
                    Edge(
                        edges[0].target, sum(f * e.cost for f, e in zip(factors, edges, strict=True)), edges[0].options
                    )
                    for edges in zip(*nodes, strict=True)
                ]
                for nodes in zip(*steps, strict=True)
            ]
            for steps in zip(*(cost.steps for _, cost in self.parts), strict=True)
        ]
