"""Grid: which operators of a space of many widths are measured, so that all others lie between measured ones.

On every axis (width in, width in the middle, width out, size of the input) so many points are taken, the smallest and
the largest option among them. Blocks, strides and the kinds of activation are measured each for itself.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

from fbspace.blocks import block_of
from fbspace.operators import Cursor
from fbspace.opspec import OpSpec
from fbspace.space import Layer, Space

_T = TypeVar("_T", int, float)

NEARLY_ONE = 1.001
"""Stands for an expansion of 1 that has its first 1x1 convolution."""


def spread(options: Sequence[_T], points: int) -> tuple[_T, ...]:
    """Return so many of the options, the first and the last among them, evenly by their number."""
    if len(options) <= points:
        return tuple(options)
    last = len(options) - 1
    return tuple(options[round(i * last / (points - 1))] for i in range(points))


def grid_operators(space: Space, points: int | None) -> list[OpSpec]:
    """Return the operators to be measured, in network order: all of the space, or those of a grid of so many points."""
    if points is None:
        return space.operators()
    return space.operators(functools.partial(spread, points=points), functools.partial(_layer, points=points))


def _layer(layer: Layer, at: Cursor, points: int) -> Iterator[OpSpec]:
    ins, outs = layer.ins or (at.channels,), layer.widths
    for spec in layer.candidates.values():
        widths = outs or (spec.out_channels,)
        if block_of(spec).leaves_out:
            # between equal widths nothing runs, so no point between those is between measured ones
            if not layer.keeps_width:
                yield from (at.copy(c).at(spec, out_channels=width) for c in ins for width in widths)
            continue
        for channels in spread(ins, points):
            here = at.copy(channels)
            for expansion in expansions_at(layer, spec, channels, points):
                yield from (here.at(spec, out_channels=width, expansion=expansion) for width in spread(widths, points))


def expansions_at(layer: Layer, spec: OpSpec, channels: int, points: int) -> list[float]:
    """Return the expansions at a width in: without a middle, and those at which the middle has the grid's widths."""

    def middle(channels: int, expansion: float) -> int | None:
        return block_of(spec).middle_channels(replace(spec, in_channels=channels, expansion=expansion))

    every = layer.expansions_of(spec)
    middles = {width for c in layer.ins or (channels,) for e in every if (width := middle(c, e)) is not None}
    widths = [round(width / channels, 4) for width in spread(sorted(middles), points)]
    found = [float(e) for e in every if middle(channels, e) is None]
    return found + [NEARLY_ONE if middle(channels, e) is None else e for e in widths]


def most_points(space: Space, fits: Callable[[int | None], bool]) -> int | None:
    """Return the finest grid that fits, of at least 2 points; None, all operators, where these do."""
    if fits(None):
        return None
    points, every = 2, len(space.operators())
    while fits(points + 1) and len(grid_operators(space, points + 1)) < every:
        points += 1
    return points
