"""Tensors and nodes of model files, and the shapes that a person gives to a file's inputs."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from fbbase.errors import suggestion
from fbmodel.errors import ModelError

Shape: TypeAlias = "tuple[int | None, ...] | None"
"""Sizes of a tensor's dimensions: None is one that the file leaves open; all is None where it says nothing."""

MOST_NUMBERS = 2**31 - 1
"""No runtime takes a larger tensor."""
MOST_DIMENSIONS = 32
ELEMENTS = ("float32", "float16", "float64", "int8", "uint8", "int16", "int32", "int64", "bool")
"""Types of numbers that an input can be asked to have."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """What goes into a model or comes out of it; `element` is numpy's name of its numbers' type, e.g. `float32`."""

    name: str
    shape: Shape
    element: str

    @property
    def is_fixed(self) -> bool:
        """Whether the file says its whole shape."""
        return self.shape is not None and None not in self.shape


@dataclass(frozen=True, slots=True)
class Node:
    """One operator of a model; `inputs` and `outputs` are names of activations, without constants.

    `output_shape` is that of its first output. `macs` are multiply-accumulates for the whole batch; both are None where
    they are not known.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    output_shape: tuple[int, ...] | None
    macs: int | None


def spelled(shape: Shape) -> str:
    """Return a shape as `--shape` takes it, `1x3x224x224`; an open dimension is `?`."""
    if shape is None:
        return "of a shape that the file does not say"
    return "x".join("?" if size is None else str(size) for size in shape) or "a single number"


def spelled_inputs(inputs: Sequence[Tensor]) -> str:
    """Return inputs with their shapes as `--shape` takes them, but for single numbers."""
    return ", ".join(f"{tensor.name[:80]}={spelled(tensor.shape)}" for tensor in inputs if tensor.shape != ())


def check_shape(name: str, shape: Shape) -> None:
    """Raise ModelError for a shape that no tensor has: below zero, of too many dimensions or too many numbers."""
    if shape is None:
        return
    if len(shape) > MOST_DIMENSIONS:
        raise ModelError(f"input {name[:80]!r} has {len(shape)} dimensions, and at most {MOST_DIMENSIONS} are taken")
    sizes = [size for size in shape if size is not None]
    if any(size < 0 for size in sizes):
        raise ModelError(f"input {name[:80]!r} is {spelled(shape)}, and no dimension is below zero")
    if math.prod(sizes) > MOST_NUMBERS:
        raise ModelError(
            f"input {name[:80]!r} is {spelled(shape)}: {math.prod(sizes):.3g} numbers, and at most 2^31 - 1 are taken"
        )


def fix_shapes(
    inputs: Sequence[Tensor],
    shapes: Mapping[str, Sequence[int]],
    elements: Mapping[str, str],
    symbols: Mapping[str, Sequence[str]],
    resizes: bool,
) -> tuple[Tensor, ...]:
    """Return the inputs with the shapes asked for, all fixed; those that are not asked for keep what they have.

    `symbols` are names of the dimensions of inputs, empty where one has none: dimensions that share one have one size.
    `resizes` says that dimensions which the file fixes may become others. Raises ModelError for an input there is not,
    for another number of dimensions, for sizes that cannot be, and for dimensions that stay open.
    """
    known = {tensor.name: tensor for tensor in inputs}
    for name in (*shapes, *elements):
        if name not in known:
            has = ", ".join(f"{each.name[:80]!r} ({spelled(each.shape)})" for each in inputs) or "none"
            raise ModelError(f"there is no input {name!r}.{suggestion(name, known)} Inputs: {has}")
    for element in elements.values():
        if element not in ELEMENTS:
            raise ModelError(
                f"unknown type of numbers {element!r}.{suggestion(element, ELEMENTS)} Known: {', '.join(ELEMENTS)}"
            )
    given = {name: _asked(known[name], shapes[name], resizes) for name in shapes}
    sizes: dict[str, tuple[int, str]] = {}
    for name, sized in given.items():
        for dimension, (symbol, size) in enumerate(zip(symbols.get(name, ()), sized, strict=False)):
            wanted, by = sizes.setdefault(symbol, (size, name)) if symbol else (size, name)
            if wanted != size:
                raise ModelError(
                    f"input {name[:80]!r}: dimension {dimension} ({symbol[:80]}) is {size}, and {wanted} in input "
                    f"{by[:80]!r}: both are one size in this file"
                )
    fixed, open_ones = [], []
    for tensor in inputs:
        names = symbols.get(tensor.name, ())
        shape = given[tensor.name] if tensor.name in given else _filled(tensor, names, sizes)
        made = replace(tensor, shape=shape, element=elements.get(tensor.name, tensor.element))
        check_shape(made.name, made.shape)
        fixed.append(made)
        if not made.is_fixed:
            open_ones.append(_left_open(made, names))
    if open_ones:
        raise ModelError("; ".join(open_ones))
    return tuple(fixed)


def refuse_other_types(inputs: Sequence[Tensor], elements: Mapping[str, str]) -> None:
    """Raise ModelError where an input is asked to be of another type than the file says."""
    for tensor in inputs:
        if elements.get(tensor.name, tensor.element) != tensor.element:
            raise ModelError(f"input {tensor.name[:80]!r} is {tensor.element}, not {elements[tensor.name]}")


def _asked(tensor: Tensor, asked: Sequence[int], resizes: bool) -> tuple[int, ...]:
    """Return a shape that an input is asked to have. Raises ModelError where it cannot."""
    shape, name = tuple(int(size) for size in asked), tensor.name[:80]
    if tensor.shape is not None and len(shape) != len(tensor.shape):
        raise ModelError(
            f"input {name!r} has {len(tensor.shape)} dimensions ({spelled(tensor.shape)}), and is asked to have "
            f"{len(shape)} ({spelled(shape)})"
        )
    for dimension, size in enumerate(shape):
        was = tensor.shape[dimension] if tensor.shape is not None else None
        if size < 1 and size != was:
            raise ModelError(f"input {name!r}: dimension {dimension} is asked to be {size}; sizes are 1 or more")
        if was is not None and size != was and not resizes:
            raise ModelError(
                f"input {name!r}: dimension {dimension} is fixed at {was} in the file and is asked to be {size}; "
                f"it is {spelled(tensor.shape)}"
            )
    return shape


def _filled(tensor: Tensor, names: Sequence[str], sizes: Mapping[str, tuple[int, str]]) -> Shape:
    """Return an input's shape, with the sizes that other inputs give to dimensions of the same name."""
    if tensor.shape is None or not names:
        return tensor.shape
    pairs = zip(tensor.shape, names, strict=True)
    return tuple(sizes[symbol][0] if size is None and symbol in sizes else size for size, symbol in pairs)


def _left_open(tensor: Tensor, names: Sequence[str]) -> str:
    name = tensor.name[:80]
    if tensor.shape is None:
        return f"input {name!r}: the file does not say its shape: give --shape {name}=SIZExSIZE…"
    left = [dimension for dimension, size in enumerate(tensor.shape) if size is None]
    called = [f"{each} ({names[each][:80]})" if names and names[each] else str(each) for each in left]
    what = f"dimension {called[0]} is" if len(called) == 1 else f"dimensions {', '.join(called)} are"
    return f"input {name!r}: {what} open: give --shape {name}={spelled(tensor.shape)} with sizes for ?"
