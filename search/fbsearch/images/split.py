"""Splits: which images train w, which train θ, which rank and which test; stratified, and following from a seed."""

import functools
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fbsearch.errors import DataError
from fbsearch.images.pool import Pool
from fbsearch.sources import Indices, Source

TEST_SHARE = 0.2
"""Share of the images set apart for the test where the data bring no test images of their own."""

Names = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Shares:
    """Shares of the images to train with: `validation` is set apart to rank networks by, `w` of the rest trains w.

    What remains trains θ (FBNet, section 4.1: 0.8 of all for w). Raises DataError.
    """

    w: float = 0.8
    validation: float = 0.1

    def __post_init__(self) -> None:
        for what, share in (("w", self.w), ("validation", self.validation)):
            if not (math.isfinite(share) and 0 < share < 1):
                raise DataError(f"the {what} split's share must lie between 0 and 1, not {share}")


@dataclass(frozen=True, slots=True)
class Split:
    """Some images of a pool: their indices in it (on the CPU), and their labels (on the compute device)."""

    pool: Pool
    indices: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __add__(self, other: "Split") -> "Split":
        assert self.pool is other.pool
        return Split(self.pool, torch.cat([self.indices, other.indices]), torch.cat([self.labels, other.labels]))


@dataclass(frozen=True, slots=True)
class Cut:
    """Indices of the images of every split; `test` counts in a source of its own where there is one."""

    w: Indices
    theta: Indices
    validation: Indices
    test: Indices

    @classmethod
    def of(
        cls, name: str, source: Source, test: Source | None, rng: np.random.Generator, limit: int | None, shares: Shares
    ) -> "Cut":
        """Set the test images apart, then those to validate with, then cut the rest in w and θ, class by class.

        `limit` keeps so many images to train with (validation included) and so many to test with. Raises DataError.
        """
        halve, kept = functools.partial(_halve, name, source, rng), np.arange(len(source.labels), dtype=np.int64)
        if test is None:
            kept, tested = halve(kept, 1 - TEST_SHARE, ("w", "θ", "validation"), ("test",))
            tested = _limited(tested, source.labels, limit, rng)
        else:
            tested = _limited(np.arange(len(test.labels), dtype=np.int64), test.labels, limit, rng)
        kept = _limited(kept, source.labels, limit, rng)
        kept, validation = halve(kept, 1 - shares.validation, ("w", "θ"), ("validation",))
        w, theta = halve(kept, shares.w, ("w",), ("θ",))
        return cls(w, theta, validation, tested)


def _halve(
    name: str, source: Source, rng: np.random.Generator, indices: Indices, share: float, one: Names, other: Names
) -> tuple[Indices, Indices]:
    """Cut `indices` in two, class by class, so that every split can have an image of every class."""
    first: list[Indices] = []
    second: list[Indices] = []
    for label, title in enumerate(source.classes):
        members = rng.permutation(indices[source.labels[indices] == label])
        if len(members) < len(one) + len(other):
            raise DataError(
                f"class {title!r} of {name} has {len(members)} image{'s' * (len(members) != 1)} left where the splits "
                f"{', '.join(one + other)} need one each; give every class more images, or raise --limit"
            )
        cut = min(max(round(share * len(members)), len(one)), len(members) - len(other))
        first.append(members[:cut])
        second.append(members[cut:])
    return np.sort(np.concatenate(first)), np.sort(np.concatenate(second))


def _limited(indices: Indices, labels: Indices, limit: int | None, rng: np.random.Generator) -> Indices:
    """Keep `limit` of the indices, as evenly over the classes as their sizes are: every class loses the same share."""
    if limit is None or limit >= len(indices):
        return indices
    position = np.empty(len(indices))
    for label in np.unique(labels[indices]):
        members = rng.permutation(np.flatnonzero(labels[indices] == label))
        position[members] = (np.arange(len(members)) + 0.5) / len(members)
    return np.sort(indices[np.argsort(position, kind="stable")[:limit]])
