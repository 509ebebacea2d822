"""Estimator: the latency of operators that a table lacks, by a regression on the rows that it has.

A layer's time is close to a sum of what its convolutions, multiply-accumulates, weights and values cost each, none of
which is below 0. What that leaves of a row, as a ratio, is much the same for layers that are much alike: it is smoothed
over neighbours, by a Gaussian process on the logarithms of the features. Whether, and over how near ones, is chosen by
cross-validation.
"""

import random
from collections.abc import Callable, Hashable, Sequence

import numpy as np
from scipy.optimize import nnls

from fbbase.errors import FbError
from fblut.errors import LutError
from fblut.table import LARGEST_PERCENT, SMALLEST_US, Lut, measure_again
from fbprof.predict.features import Floats, Layer, layer_of
from fbprof.predict.prediction import Estimate
from fbspace.opspec import OpSpec

FEWEST_ROWS = 8
MOST_ROWS = 300
"""Of a larger table so many random rows are taken."""
LENGTHS: tuple[float | None, ...] = (None, 3.0, 1.5)
"""Over which neighbours is smoothed, in standard deviations of the logarithms of features; None: over none."""
NOISE = 0.005
"""Of a row's ratio, in units of how far those of rows that are not alike differ (both as variances)."""
MOST_FOLDS = 50
MOST_STEPS = 10_000
"""Of the non-negative fit; it takes a few."""
SHRINKAGE = 8
"""A kind's error counts as if it had so many rows more, of the table's mean error."""

Regression = Callable[[Floats], Floats]
"""From features, rows x FEATURES, to latencies in microseconds."""


class Estimator:
    """What a table's rows say of layers that it lacks.

    `regression` names what was chosen; `error_percent` has the standard error of a layer of a shape that no row has, by
    the kind of its block, and for a kind that no row has under None, where rows of several kinds tell it.
    """

    def __init__(self, lut: Lut) -> None:
        """Take the table's rows. Raises LutError where they are too few."""
        rows = [(row.spec, row.latency_us) for row in lut.rows.values() if row.latency_us is not None]
        random.Random("estimator").shuffle(rows)
        layers: list[tuple[OpSpec, Layer, float]] = []
        for spec, row_us in rows:
            if len(layers) < MOST_ROWS and (layer := known_layer(spec)) is not None:
                layers.append((spec, layer, row_us))
        if len(layers) < FEWEST_ROWS:
            raise LutError(
                f"the table has {len(layers)} rows to estimate from, and {FEWEST_ROWS} are needed: "
                f"{measure_again(lut.metadata)}"
            )
        specs, features = [spec for spec, _, _ in layers], np.array([layer.features for _, layer, _ in layers])
        latency_us = np.array([row_us for _, _, row_us in layers])
        kinds = [spec.kind for spec in specs]
        shapes = [(s.in_channels, s.out_channels, s.height, s.width, s.stride) for s in specs]
        tried = [(held_out(features, latency_us, shapes, length), length) for length in LENGTHS]
        if np.isnan(tried[0][0]).all():
            raise LutError(
                "the table's rows are nearly all of one shape, so that nothing tells how far estimates for another are "
                f"off: {measure_again(lut.metadata)}"
            )
        error, length = min(tried, key=lambda each: float(np.nanmean(each[0] ** 2)))
        of_kinds = held_out(features, latency_us, kinds, length)
        self.error_percent: dict[str | None, float] = {
            kind: _percent(error, [each == kind for each in kinds]) for kind in dict.fromkeys(kinds)
        }
        if not np.isnan(of_kinds).all():
            self.error_percent[None] = _percent(of_kinds)
        self.patterns = {layer.pattern: spec.kind for spec, layer, _ in layers}
        self.regression = f"a sum over convolutions, MACs, weights and values, fitted to {len(layers)} rows" + (
            ", times what it misses of similar rows" if length else ""
        )
        self._families = {(spec.kind, spec.kernel) for spec in specs}
        self._fixed = sorted({row.spec.kind for row in lut.rows.values() if row.status == "fixed"})
        self._latency_us = _fit(features, latency_us, length)
        self._largest = features.max(0)

    def estimate(self, layer: Layer, spec: OpSpec | None = None) -> Estimate:
        """Return the latency of a layer, or of an operator, whose layer it then is.

        It is of a known kind where rows have its kind and kernel, or are built as it is. Raises LutError where it is
        not, and rows tell nothing of others.
        """
        is_known = spec is not None and (spec.kind, spec.kernel) in self._families
        kind = spec.kind if is_known and spec is not None else self.patterns.get(layer.pattern)
        if kind is None and self._fixed:
            raise LutError(
                f"the table cannot tell what {layer.name} takes: its fixed cost of a network holds operators of kind "
                f"{', '.join(self._fixed)} of its own networks; take a table that was measured operator by operator"
            )
        if kind not in self.error_percent:
            kinds = ", ".join(each for each in self.error_percent if each)
            raise LutError(f"the table cannot tell what {layer.name} takes: nearly all of its rows are of kind {kinds}")
        return Estimate(
            name=layer.name,
            latency_us=float(self._latency_us(layer.features[None])[0]),
            error_percent=self.error_percent[kind],
            is_beyond=bool(np.any(layer.features > self._largest)),
        )


def known_layer(spec: OpSpec) -> Layer | None:
    """Return an operator as a layer, None where its block is not known here or does not run."""
    try:
        return layer_of(spec)
    except FbError:
        return None


def held_out(features: Floats, latency_us: Floats, groups: Sequence[Hashable], length: float | None) -> Floats:
    """Return the logarithm of estimated over true latency of every row, by the rows of other groups.

    NaN where these are fewer than half of all.
    """
    number = {group: index % MOST_FOLDS for index, group in enumerate(dict.fromkeys(groups))}
    fold = np.array([number[group] for group in groups])
    error = np.full(len(fold), np.nan)
    for each in set(number.values()):
        out = fold == each
        if out.mean() <= 0.5:
            error[out] = np.log(_fit(features[~out], latency_us[~out], length)(features[out]) / latency_us[out])
    return error


def _fit(features: Floats, latency_us: Floats, length: float | None) -> Regression:
    """Return the regression on rows; relative errors count."""
    unit = np.maximum(features.max(0), 1.0)
    cost, _ = nnls(features / unit / latency_us[:, None], np.ones(len(latency_us)), maxiter=MOST_STEPS)

    def added(of: Floats) -> Floats:
        total: Floats = np.maximum(of / unit @ cost, SMALLEST_US)
        return total

    if length is None:
        return added
    deviation = np.log1p(features).std(0)
    unit_length = length * np.where(deviation > 0, deviation, 1.0)

    def likeness(first: Floats, second: Floats) -> Floats:
        apart = np.log1p(first)[:, None] / unit_length - np.log1p(second)[None] / unit_length
        alike: Floats = np.exp(-(apart**2).sum(-1) / 2)
        return alike

    missed = np.log(latency_us / added(features))
    weights = np.linalg.solve(likeness(features, features) + NOISE * np.eye(len(missed)), missed)
    return lambda of: added(of) * np.exp(likeness(of, features) @ weights)


def _percent(error: Floats, of_kind: Sequence[bool] = ()) -> float:
    """Return the root mean square of errors in percent; of a kind's, with SHRINKAGE times the mean of all."""
    squares = error**2
    own = squares[np.array(of_kind, dtype=bool)] if of_kind else squares[:0]
    own = own[~np.isnan(own)]
    mean = (own.sum() + SHRINKAGE * np.nanmean(squares)) / (len(own) + SHRINKAGE)
    return float(min(100 * np.expm1(np.sqrt(mean)), LARGEST_PERCENT))
