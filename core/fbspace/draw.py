"""Drawing random networks of a space: the options of every decision uniformly, no network twice."""

import itertools
import math
import random
from collections.abc import Collection, Iterator

from fbspace.space import Space

ENUMERABLE = 10_000
"""A space of so few networks is listed and shuffled; in larger ones a network is hardly ever drawn twice."""


def draw_networks(
    space: Space, count: int, seed: str, exclude: Collection[tuple[str, ...]] = ()
) -> list[tuple[str, ...]]:
    """Return the choices of `count` distinct random networks, none of `exclude`; fewer where the space has no more.

    The same seed gives the same networks, and a larger count gives the same ones first.
    """
    taken = set(exclude)
    drawn: list[tuple[str, ...]] = []
    for choices in _stream(space, random.Random(f"{space.name}/{seed}")):
        if len(drawn) == count:
            break
        if choices not in taken:
            taken.add(choices)
            drawn.append(choices)
    return drawn


def _stream(space: Space, generator: random.Random) -> Iterator[tuple[str, ...]]:
    names = [decision.options for decision in space.decisions]
    if math.prod(map(len, names)) <= ENUMERABLE:
        every = list(itertools.product(*names))
        generator.shuffle(every)
        yield from every
    else:
        while True:
            yield tuple(generator.choice(options) for options in names)
