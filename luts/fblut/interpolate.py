"""Latencies between measured points: linear in pixels, width in, width in the middle, and width out.

A 1x1 convolution takes time in proportion to the pixels and to both of its widths, a depthwise one to pixels and
width: a block's time is close to linear in each of the four with the others held. In a cell whose corners are all
measured, the multilinear interpolation is exact at the corners, and monotone wherever they are. Beyond the measured
points nothing is said.
"""

import functools
import itertools
from collections.abc import Iterable, Iterator

from fbspace.blocks import BLOCKS, block_of
from fbspace.opspec import OpSpec

Point = tuple[int, ...]
"""Width in, in the middle (0 where the block has none of its own) and out."""
Family = tuple[object, ...]
Weights = dict[Point, float]


class Interpolation:
    """The measured operators of a table by family (all but widths and pixels), pixels, and widths."""

    def __init__(self, measured: Iterable[OpSpec]) -> None:
        self._levels: dict[Family, dict[int, dict[Point, OpSpec]]] = {}
        specs = list(measured)
        known = {kind for kind in {spec.kind for spec in specs} if kind in BLOCKS}
        for spec in specs:
            if spec.kind in known:  # of another the widths are not known, and no space here has it
                levels = self._levels.setdefault(_family(spec), {})
                levels.setdefault(spec.height * spec.width, {})[_point(spec)] = spec
        self._axes = functools.cache(self._axes_of)

    def parts(self, spec: OpSpec) -> list[tuple[OpSpec, float]] | None:
        """Return the measured operators around one and weights of sum one; None where it is not between any."""
        family, pixels, point = _family(spec), spec.height * spec.width, _point(spec)
        levels = self._levels.get(family, {})
        below = self._nearest(family, sorted((p for p in levels if p <= pixels), reverse=True), point)
        above = self._nearest(family, sorted(p for p in levels if p >= pixels), point)
        if below is None or above is None:
            return None
        (low, low_cell), (high, high_cell) = below, above
        share = 0.0 if high == low else (pixels - low) / (high - low)
        parts = [(levels[low][corner], (1 - share) * w) for corner, w in low_cell.items()]
        return parts + [(levels[high][corner], share * w) for corner, w in high_cell.items() if share]

    def _nearest(self, family: Family, levels: list[int], point: Point) -> tuple[int, Weights] | None:
        """Return the first of some numbers of pixels at which a cell holds the point, with the corners' weights."""
        cells = ((pixels, self._cell(family, pixels, point)) for pixels in levels)
        return next(((pixels, cell) for pixels, cell in cells if cell is not None), None)

    def _cell(self, family: Family, pixels: int, point: Point) -> Weights | None:
        """Return the weights of the corners of the tightest measured cell around a point."""
        measured = self._levels[family][pixels]
        if point in measured:
            return {point: 1.0}
        axes = self._axes(family, pixels)
        brackets = [list(_brackets(axis, x)) for axis, x in zip(axes, point, strict=True)]
        for cell in itertools.product(*brackets):
            corners = {tuple(corner) for corner in itertools.product(*cell)}
            if all(corner in measured for corner in corners):
                return {corner: _weight(corner, cell, point) for corner in corners}
        return None

    def _axes_of(self, family: Family, pixels: int) -> list[list[int]]:
        return [sorted(set(axis)) for axis in zip(*self._levels[family][pixels], strict=True)]


def _brackets(axis: list[int], x: int) -> Iterator[tuple[int, int]]:
    """Yield pairs of values of an axis around x, the tightest first; x itself as a pair with itself."""
    below, above = [v for v in reversed(axis) if v <= x], [v for v in axis if v >= x]
    pairs = ((i + j, low, high) for i, low in enumerate(below) for j, high in enumerate(above))
    yield from ((low, high) for _, low, high in sorted(pairs) if low < high or low == x)


def _weight(corner: Point, cell: tuple[tuple[int, int], ...], point: Point) -> float:
    weight = 1.0
    for at, (low, high), x in zip(corner, cell, point, strict=True):
        if high > low:
            share = (x - low) / (high - low)
            weight *= share if at == high else 1 - share
    return weight


def _family(spec: OpSpec) -> Family:
    expansion = spec.expansion if block_of(spec).middle_channels(spec) is None else None
    own = spec.kernel, spec.stride, spec.groups, spec.activation, spec.squeeze_excite, spec.parameters
    return spec.kind, expansion, *own


def _point(spec: OpSpec) -> Point:
    return spec.in_channels, block_of(spec).middle_channels(spec) or 0, spec.out_channels
