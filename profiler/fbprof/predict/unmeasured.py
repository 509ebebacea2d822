"""Unmeasured: networks of which a table lacks operators, an architecture's or all that a module is made of."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from torch import nn

from fblut.errors import LutError
from fblut.table import Lut
from fbprof.predict.estimator import Estimator, known_layer
from fbprof.predict.features import Layer, as_layer, layer_of, split
from fbprof.predict.observed import Operation, observe
from fbprof.predict.prediction import NetworkPrediction, predict
from fbspace.opspec import OpSpec

Pattern = tuple[object, ...]
Found = TypeVar("Found")


def predict_operators(
    name: str, specs: Sequence[OpSpec], lut: Lut, estimator: Estimator | None = None
) -> NetworkPrediction:
    """Return the prediction for a network of operators, of which those that the table lacks are estimated.

    For many networks the estimator of the table may be made once. Raises LutError where there can be no estimates,
    ExportError where a block does not run.
    """
    estimator, lacking = estimator or Estimator(lut), set(lut.missing(specs))
    estimates = [estimator.estimate(layer_of(spec), spec) for spec in specs if spec in lacking]
    known = [spec for spec in specs if spec not in lacking]
    return predict(name, lut, known, estimates, estimator.regression)


def predict_module(
    name: str, module: nn.Module, input_shape: tuple[int, int, int, int], lut: Lut, strict: bool = False
) -> NetworkPrediction:
    """Return the prediction for an eval-mode module and one image, N, C, H, W, by running it once, here.

    What computes as an operator of the table does is that operator; the rest is estimated layer by layer, or refused
    where it is `strict`. Raises LutError, ExportError where the module does not run.
    """
    if input_shape[0] != 1:
        raise LutError(f"a table has the latency of one image, not of {input_shape[0]}: give a shape 1xCxHxW")
    if any(row.status == "fixed" for row in lut.rows.values()):
        raise LutError(
            "the table's fixed cost of a network holds stem and head of its own networks, so it tells nothing of a "
            "module; take a table that was measured operator by operator"
        )
    operations = observe(module, input_shape)
    operators = _operators(operations, lut)
    lengths = {len(pattern) for pattern, _ in operators}
    runs = list(_runs(operations, lengths, lambda layer: operators.get((layer.pattern, layer.shapes))))
    specs = [spec for _, spec in runs if spec is not None]
    rest = [run for run, spec in runs if spec is None]
    if strict and rest:
        lines = "\n".join(f"  {as_layer(part).name}" for run in rest for part in split(run))
        raise LutError(
            f"the table (device {lut.metadata.device}, space {lut.metadata.space}) lacks operators of {name}:\n"
            f"{lines}\nRemedy: leave out --strict to estimate them, or measure the model itself"
        )
    if not rest:
        return predict(name, lut, specs)
    estimator = Estimator(lut)
    lengths = set(map(len, estimator.patterns))
    parts = [pair for run in rest for pair in _runs(run, lengths, lambda layer: estimator.patterns.get(layer.pattern))]
    layers = [as_layer(each) for part, kind in parts for each in (split(part) if kind is None else [part])]
    return predict(name, lut, specs, [estimator.estimate(layer) for layer in layers], estimator.regression)


def _operators(operations: Sequence[Operation], lut: Lut) -> dict[tuple[Pattern, Pattern], OpSpec]:
    """Return the table's operators, by pattern and shapes, whose input is as large as one that operations have."""
    shapes = {value.shape for operation in operations for value in operation.inputs}
    rows = [row.spec for row in lut.rows.values() if row.latency_us is not None and row.spec.input_shape in shapes]
    layers = [(spec, layer) for spec in rows if (layer := known_layer(spec)) is not None]
    return {(layer.pattern, layer.shapes): spec for spec, layer in layers}


def _runs(
    operations: Sequence[Operation], lengths: Iterable[int], find: Callable[[Layer], Found | None]
) -> Iterator[tuple[Sequence[Operation], Found | None]]:
    """Yield operations in runs with what is found for them, the longest first; None for those in between."""
    longest_first = sorted(lengths, reverse=True)
    start = at = 0
    while at < len(operations):
        tried = ((length, find(as_layer(operations[at : at + length]))) for length in longest_first)
        length, found = next((each for each in tried if each[1] is not None), (1, None))
        if found is not None:
            if at > start:
                yield operations[start:at], None
            yield operations[at : at + length], found
            start = at + length
        at += length
    if at > start:
        yield operations[start:], None
