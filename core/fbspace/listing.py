"""Listing: a network told operator by operator, such as one with widths of its own; it is a space of one network."""

from collections.abc import Sequence
from typing import Annotated

import pydantic

from fbspace.blocks import block_class
from fbspace.errors import SpaceError
from fbspace.operators import Cursor, Input, Operator, PlacedOperator, Strict
from fbspace.opspec import MOST_LAYERS, MOST_PIXELS, OpSpec
from fbspace.space import Layer, Space
from fbspace.widths import round_channels

_Operators = Annotated[tuple[PlacedOperator, ...], pydantic.Field(min_length=1, max_length=MOST_LAYERS)]

MOST_WIDTH = 100
"""Times the width that a network is scaled by."""


class Listing(Strict):
    """A network's operators in order; the last of the head is the classifier."""

    input: Input
    stem: _Operators
    layers: _Operators
    head: _Operators

    @property
    def choices(self) -> tuple[str, ...]:
        """Names of the operators in `layers`, e.g. `k5_e4_se_hswish`."""
        return tuple(_name(operator) for operator in self.layers)

    def space(self, name: str, description: str = "") -> Space:
        """Return the space of this network alone. Raises SpaceError without a classifier, SpecError."""
        if self.head[-1].kind != "classifier":
            raise SpaceError(f"network {name} ends in {self.head[-1].kind!r}; the last operator is a 'classifier'")
        height, width = self.input.sides
        cursor = Cursor(self.input.channels, height, width)
        stem = tuple(cursor.place(operator) for operator in self.stem)
        layers, stage = [], 1
        for index, operator in enumerate(self.layers, start=1):
            stage += operator.stride > 1
            layers.append(Layer(index, stage, {_name(operator): cursor.place(operator)}))
        head = tuple(cursor.place(operator) for operator in self.head)
        return Space(
            name=name,
            description=description,
            input_channels=self.input.channels,
            input_size=height,
            classes=head[-1].out_channels,
            stem=stem,
            layers=tuple(layers),
            heads={head[0].out_channels: head},
            input_width=self.input.width,
        )


def scale(space: Space, specs: Sequence[OpSpec], width: float = 1.0, size: int | None = None) -> Listing:
    """Return a network of a space with other widths and another input size.

    Every width but the number of classes is multiplied by `width` and rounded to a multiple of 8 (`round_channels`).
    Raises SpaceError for what no network can be scaled by.
    """
    if not 0 < width <= MOST_WIDTH or not 0 < (size or 1) <= MOST_PIXELS:
        limits = f"widths by more than 0 and at most {MOST_WIDTH} times, images of at most {MOST_PIXELS} pixels a side"
        raise SpaceError(f"{space.name} cannot be scaled so: {limits}")
    operators = [PlacedOperator.of(spec) for spec in specs]
    if width != 1:
        widths = [it.channels if it.kind == "classifier" else round_channels(width * it.channels) for it in operators]
        operators = [it.model_copy(update={"channels": wide}) for it, wide in zip(operators, widths, strict=True)]
    stem, layers = len(space.stem), len(space.stem) + len(space.layers)
    return Listing(
        input=_input(space, size),
        stem=tuple(operators[:stem]),
        layers=tuple(operators[stem:layers]),
        head=tuple(operators[layers:]),
    )


def _input(space: Space, size: int | None) -> Input:
    if size is None and space.input_width is not None:
        return Input(channels=space.input_channels, height=space.input_size, width=space.input_width)
    return Input(channels=space.input_channels, size=size or space.input_size)


def _name(operator: Operator) -> str:
    if block_class(operator.kind).leaves_out:
        return operator.kind
    parts = [f"k{operator.kernel}", f"e{operator.expansion:g}"]
    parts += [f"g{operator.groups}"] if operator.groups > 1 else []
    parts += ["se"] if operator.squeeze_excite else []
    parts += [operator.activation] if operator.activation != "relu" else []
    parts += [f"{name}{value}" for name, value in sorted(operator.parameters.items())]
    return "_".join(parts)
