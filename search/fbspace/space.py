"""Space: which networks may be built, read from a TOML table a person can read."""

import contextlib
import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pydantic

from fbbase.errors import FbError, UnknownNameError
from fbbase.files import read_text
from fbbase.plugins import PluginFolder
from fbspace.blocks import BLOCKS, build_block
from fbspace.errors import ArchitectureError, SpaceError
from fbspace.operators import Count, Cursor, Input, Operator, PlacedOperator, Strict
from fbspace.opspec import OpSpec
from fbspace.toml_lines import line_of

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


def load_space(name: str, build: bool = False) -> Space:
    """Return a space by name, or from a file if `name` ends in .toml; with `build` its blocks are built for a trial.

    Raises SpaceError, which names the line, and UnknownNameError.
    """
    path = Path(name) if name.endswith(".toml") else SPACES.path(name)
    text = read_text(path, "search space")
    try:
        content = _SpaceFile.model_validate(tomllib.loads(text))
        return _build(path.stem if name.endswith(".toml") else name, content, _try_block if build else _accept)
    except tomllib.TOMLDecodeError as error:
        raise SpaceError(f"{path}: {error}") from None
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        where, reason = first["loc"], first["msg"]
    except _MisplacedError as error:
        where, reason = error.where, str(error)
    raise SpaceError(f"{path}: line {line_of(text, where)}: {'.'.join(map(str, where))}: {reason}")


class _MisplacedError(Exception):
    """An operator that cannot be where the file has it, at a path such as ("stages", 2)."""

    def __init__(self, where: tuple[str | int, ...], reason: str) -> None:
        super().__init__(reason)
        self.where = where


@contextlib.contextmanager
def _at(*where: str | int) -> Iterator[None]:
    """Say where the operators made here are told."""
    try:
        yield
    except FbError as error:
        raise _MisplacedError(where, str(error)) from None


def _try_block(spec: OpSpec) -> None:
    """Build a block without memory for its weights. Raises SpecError."""
    import torch

    with torch.device("meta"):
        build_block(spec)


def _accept(spec: OpSpec) -> None:
    """Build nothing."""


def _build(name: str, content: _SpaceFile, try_block: Callable[[OpSpec], None]) -> Space:
    for where, operator in _operators(content):
        with _at(*where, "kind"):
            if operator.kind not in BLOCKS:
                raise UnknownNameError(BLOCKS.kind, operator.kind, BLOCKS.names())
    cursor = Cursor(content.input.channels, content.input.size)
    stem = []
    for number, placed in enumerate(content.stem):
        with _at("stem", number):
            stem.append(cursor.place(placed))
            try_block(stem[-1])
    layers = tuple(_layers(content, cursor, try_block))
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
        stem=tuple(stem),
        layers=layers,
        heads=heads,
    )


def _operators(content: _SpaceFile) -> Iterator[tuple[tuple[str | int, ...], Operator]]:
    """Yield every operator that the file tells, with its place."""
    yield from ((("stem", number), operator) for number, operator in enumerate(content.stem))
    yield from ((("candidates", name), operator) for name, operator in content.candidates.items())


def _layers(content: _SpaceFile, cursor: Cursor, try_block: Callable[[OpSpec], None]) -> Iterator[Layer]:
    index = 0
    for stage_number, stage in enumerate(content.stages, start=1):
        for repeat in range(stage.repeats):
            index += 1
            stride = stage.stride if repeat == 0 else 1
            candidates = {}
            for name, operator in content.candidates.items():
                with _at("candidates", name):
                    candidates[name] = cursor.spec(operator, stage.channels, stride)
                    try_block(candidates[name])
            yield Layer(index, stage_number, candidates)
            cursor.advance(next(iter(candidates.values())))
