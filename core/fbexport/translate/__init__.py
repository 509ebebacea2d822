"""Translate: one call that torch.fx recorded (a layer, a function, a method) as operators of the graph.

To teach the exporter an operator, add an entry to `FUNCTIONS` or `METHODS` of a file here; layers of torch are traced
down to the functions they call, so few need an entry of their own. If it is none of the graph's kinds, add a kind to
graph.py and to the formats. Shapes follow from the operators' formulas, nothing is run.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from torch import nn

from fbexport.translate import elementwise, layers, matrices, moves, pooling
from fbexport.translate.call import Call, Results, in_torch
from fbexport.translate.layers import BatchNorm

__all__ = ["BatchNorm", "Call", "Results", "in_torch", "is_chain", "is_known", "links", "translate"]

_GROUPS = (layers, elementwise, pooling, moves, matrices)
_LAYERS = layers.LAYERS | elementwise.LAYERS | pooling.LAYERS
_FUNCTIONS: dict[object, Callable[[Call], Results]] = {}
_METHODS: dict[str, Callable[[Call], Results]] = {}
for _group in _GROUPS:
    _FUNCTIONS |= _group.FUNCTIONS
    _METHODS |= _group.METHODS
_KNOWN = (
    "convolutions, normalisations, activations, pooling, interpolation, matrix products, attention, sums, products, "
    "means, concatenation, slices and reshapes"
)


def is_known(layer: nn.Module) -> bool:
    """Return whether a layer has a translation of its own."""
    return type(layer) in _LAYERS


def is_chain(layer: nn.Module) -> bool:
    """Return whether a layer only runs known layers one after the other."""
    return type(layer) is nn.Sequential and len(layer) > 0 and all(is_known(part) or is_chain(part) for part in layer)


def links(call: Call) -> Iterator[Call]:
    """Yield the calls of a chain's layers, each on the input of the chain."""
    for name, child in call.layer.named_children():
        link = replace(
            call,
            name=f"{call.name}_{name}",
            operator=type(child).__name__,
            source=f"{call.source}.{name}".lstrip("."),
            layer=child,
            made=[],
        )
        yield from links(link) if is_chain(child) else [link]


def translate(call: Call, target: Any) -> Results:
    """Return what a call makes: the input itself where it is an identity in eval mode, several where torch does so.

    `target` is what torch.fx recorded: a function, or the name of a layer or method. Raises ExportError.
    """
    known = _known(call, target)
    if known is None:
        raise call.error(f"it has no translation. Build the block from {_KNOWN}, or add a translation")
    return known(call)


def _known(call: Call, target: Any) -> Callable[[Call], Results] | None:
    if call.layer is not None and is_known(call.layer):
        return _LAYERS[type(call.layer)]
    if isinstance(target, str):
        return _METHODS.get(target.strip("_"))
    return _FUNCTIONS.get(target)
