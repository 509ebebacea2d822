"""Space: which networks may be built, read from a TOML table a person can read."""

import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pydantic

from fbbase.errors import FbError
from fbbase.files import read_text
from fbbase.plugins import PluginFolder
from fbspace.errors import ArchitectureError, SpaceError
from fbspace.operators import Count, Cursor, Input, Operator, PlacedOperator, Strict
from fbspace.opspec import OpSpec

SPACES = PluginFolder("space", "fbspace.spaces", suffix=".toml")


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer to be searched: the candidates by name, all of the same input and output shape."""

    index: int
    stage: int
    candidates: dict[str, OpSpec]


@dataclass(frozen=True, slots=True)
class Space:
    """A search space: fixed stem, searchable layers, and a head (1x1 convolution, classifier) of a few widths.

    `heads` maps the width of the last 1x1 convolution to the head's operators; the first is the default.
    """

    name: str
    description: str
    input_channels: int
    input_size: int
    classes: int
    stem: tuple[OpSpec, ...]
    layers: tuple[Layer, ...]
    heads: dict[int, tuple[OpSpec, ...]]

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        """Shape of one input image: 1, channels, height, width."""
        return 1, self.input_channels, self.input_size, self.input_size

    @property
    def head_channels(self) -> int:
        """Width of the default head."""
        return next(iter(self.heads))

    def specs(self, choices: Sequence[str], head_channels: int | None = None) -> list[OpSpec]:
        """Return the operators of one network in order, stem to classifier, identities included.

        Raises ArchitectureError for the wrong number of choices, an unknown candidate or an unknown head.
        """
        if len(choices) != len(self.layers):
            raise ArchitectureError(f"space {self.name} has {len(self.layers)} layers, but {len(choices)} are chosen")
        head = self.head_channels if head_channels is None else head_channels
        if head not in self.heads:
            known = ", ".join(map(str, self.heads))
            raise ArchitectureError(f"space {self.name} has no head of {head} channels; it has {known}")
        chosen = []
        for layer, name in zip(self.layers, choices, strict=True):
            if name not in layer.candidates:
                known = ", ".join(layer.candidates)
                raise ArchitectureError(
                    f"layer {layer.index} of space {self.name} has no candidate {name!r}; it has {known}"
                )
            chosen.append(layer.candidates[name])
        return [*self.stem, *chosen, *self.heads[head]]

    def operators(self) -> list[OpSpec]:
        """Return every distinct operator that has to be measured, in network order; identities need no measuring."""
        every = [*self.stem]
        every += [spec for layer in self.layers for spec in layer.candidates.values()]
        every += [spec for head in self.heads.values() for spec in head]
        return [spec for spec in dict.fromkeys(every) if not spec.is_identity]


_Name = Annotated[str, pydantic.StringConstraints(pattern=r"^[A-Za-z0-9_.-]+$")]


class _Stage(Strict):
    channels: Count
    repeats: Count
    stride: Count


class _SpaceFile(Strict):
    description: str
    input: Input
    classes: Annotated[int, pydantic.Field(ge=2)]
    head_channels: Annotated[list[Count], pydantic.Field(min_length=1)]
    stem: Annotated[list[PlacedOperator], pydantic.Field(min_length=1)]
    stages: Annotated[list[_Stage], pydantic.Field(min_length=1)]
    candidates: Annotated[dict[_Name, Operator], pydantic.Field(min_length=1)]


def load_space(name: str) -> Space:
    """Return a space by name, or from a file if `name` ends in .toml. Raises SpaceError, UnknownNameError."""
    path = Path(name) if name.endswith(".toml") else SPACES.path(name)
    try:
        content = _SpaceFile.model_validate(tomllib.loads(read_text(path, "search space")))
        return _build(path.stem if name.endswith(".toml") else name, content)
    except tomllib.TOMLDecodeError as error:
        raise SpaceError(f"{path}: {error}") from None
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise SpaceError(f"{path}: {where}: {first['msg']}") from None
    except FbError as error:
        raise type(error)(f"{path}: {error}") if isinstance(error, SpaceError) else error from None


def _build(name: str, content: _SpaceFile) -> Space:
    cursor = Cursor(content.input.channels, content.input.size)
    stem = tuple(cursor.place(op) for op in content.stem)
    layers = tuple(_layers(content, cursor))
    heads: dict[int, tuple[OpSpec, ...]] = {}
    for channels in content.head_channels:
        head = Cursor(cursor.channels, cursor.height)
        last = head.advance(head.spec(Operator(kind="conv"), channels, 1))
        fc = head.spec(Operator(kind="classifier", activation="none"), content.classes, 1)
        heads[channels] = (last, fc)
    return Space(
        name=name,
        description=content.description,
        input_channels=content.input.channels,
        input_size=content.input.size,
        classes=content.classes,
        stem=stem,
        layers=layers,
        heads=heads,
    )


def _layers(content: _SpaceFile, cursor: Cursor) -> Iterator[Layer]:
    index = 0
    for stage_number, stage in enumerate(content.stages, start=1):
        for repeat in range(stage.repeats):
            index += 1
            stride = stage.stride if repeat == 0 else 1
            candidates = {name: cursor.spec(op, stage.channels, stride) for name, op in content.candidates.items()}
            yield Layer(index, stage_number, candidates)
            cursor.advance(next(iter(candidates.values())))
