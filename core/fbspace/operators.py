"""Operators as files tell them, without the shapes that reach them, and the cursor that gives them these."""

import functools
from dataclasses import dataclass, replace
from typing import Annotated, Any, Self

import pydantic
from pydantic_core import PydanticCustomError

from fbbase.errors import FbError
from fbspace.blocks import block_class, block_of, own_parameters
from fbspace.opspec import MOST_CHANNELS, MOST_EXPANSION, OpSpec, Value

Count = Annotated[int, pydantic.Field(ge=1, le=MOST_CHANNELS)]
Expansion = Annotated[float, pydantic.Field(gt=0, le=MOST_EXPANSION)]


class Strict(pydantic.BaseModel):
    """A table of a file in which no name is unknown."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)


class Sides(Strict):
    """The images: channels, and in pixels the `size` of both sides, or height and width."""

    channels: Count
    height: Count | None = None
    width: Count | None = None

    @pydantic.model_validator(mode="after")
    def _check_sides(self) -> Self:
        given = [getattr(self, name) is not None for name in ("size", "height", "width")]
        if given not in ([True, False, False], [False, True, True]):
            raise PydanticCustomError("sides", "images have a size, or a height and a width; give one of both")
        return self


class Input(Sides):
    """Images of one size."""

    size: Count | None = None

    @property
    def sides(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return (self.height or self.size or 0), (self.width or self.size or 0)


def _known(kind: str) -> str:
    """Refuse a kind of block that there is not."""
    try:
        block_class(kind)
    except FbError as error:
        raise PydanticCustomError("block", "{reason}", {"reason": str(error)}) from None
    return kind


class Operator(Strict, extra="allow"):
    """An operator apart from its width and stride, e.g. a candidate; the block's own parameters stand beside these."""

    kind: Annotated[str, pydantic.AfterValidator(_known)]
    kernel: Count = 1
    expansion: Expansion = 1
    groups: Count = 1
    activation: str = "relu"
    squeeze_excite: bool = False

    @property
    def parameters(self) -> dict[str, Value]:
        """The block's own parameters, without those at their default."""
        return self.model_extra or {}

    @pydantic.model_validator(mode="after")
    def _check_parameters(self) -> Self:
        try:
            object.__setattr__(self, "__pydantic_extra__", dict(own_parameters(self.kind, self.parameters)))
        except FbError as error:
            raise PydanticCustomError("parameter", "{reason}", {"reason": str(error)}) from None
        return self


class PlacedOperator(Operator):
    """An operator in its place in a network: `channels` is the width of the output."""

    channels: Count
    stride: Count = 1

    @classmethod
    def of(cls, spec: OpSpec) -> "PlacedOperator":
        """Return an operator as a file tells it."""
        fields: dict[str, Any] = {name: getattr(spec, name) for name in cls.model_fields if name != "channels"}
        return cls(channels=spec.out_channels, **fields | dict(spec.parameters))


@functools.lru_cache(maxsize=2**14, typed=True)
def _changed(spec: OpSpec, number: str, **changes: Any) -> OpSpec:
    """Return an operator with changes, checked once: networks of a space have the same ones over and over.

    Runs are identified by how operators are shown, and expansions of 1 and of 1.0 are shown differently, though the
    operators are equal: so `number` is the type of the expansion.
    """
    return replace(spec, **changes)


@dataclass
class Cursor:
    """Walks through a network and gives each operator the shape that reaches it."""

    channels: int
    height: int
    width: int

    def spec(self, operator: Operator, channels: int, stride: int) -> OpSpec:
        """Return an operator here. Raises SpecError where it cannot be."""
        return OpSpec(
            **{name: getattr(operator, name) for name in Operator.model_fields},
            parameters=tuple(sorted(operator.parameters.items())),
            in_channels=self.channels,
            out_channels=channels,
            height=self.height,
            width=self.width,
            stride=stride,
        )

    def copy(self, channels: int | None = None) -> "Cursor":
        """Return another one at the same place, with other channels if these are given."""
        return replace(self, channels=self.channels if channels is None else channels)

    def at(self, spec: OpSpec, **changes: Any) -> OpSpec:
        """Return an operator with the input shape that is here, and other changes."""
        return _changed(
            spec,
            type(spec.expansion).__name__,
            in_channels=self.channels,
            height=self.height,
            width=self.width,
            **changes,
        )

    def follow(self, spec: OpSpec, **changes: Any) -> OpSpec:
        """Return an operator with the input shape that is here, and other changes, and go behind it."""
        return self.advance(self.at(spec, **changes))

    def advance(self, spec: OpSpec) -> OpSpec:
        """Go behind an operator, and return it."""
        self.channels, (self.height, self.width) = spec.out_channels, block_of(spec).output_size(spec)
        return spec

    def place(self, operator: PlacedOperator) -> OpSpec:
        """Return an operator here, and go behind it."""
        return self.advance(self.spec(operator, operator.channels, operator.stride))
