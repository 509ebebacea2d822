"""Space: which networks may be built, read from a TOML table a person can read."""

import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pydantic

from fbbase.errors import FbError
from fbbase.files import read_text
from fbbase.plugins import PluginFolder
from fbspace.errors import ArchitectureError, SpaceError
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


class _Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)


_Count = Annotated[int, pydantic.Field(ge=1)]
_Name = Annotated[str, pydantic.StringConstraints(pattern=r"^[A-Za-z0-9_.-]+$")]


class _Input(_Strict):
    channels: _Count
    size: _Count


class _Operator(_Strict):
    kind: str
    kernel: _Count = 1
    expansion: Annotated[float, pydantic.Field(gt=0)] = 1
    groups: _Count = 1
    activation: str = "relu"
    squeeze_excite: bool = False


class _StemOperator(_Operator):
    channels: _Count
    stride: _Count = 1


class _Stage(_Strict):
    channels: _Count
    repeats: _Count
    stride: _Count


class _SpaceFile(_Strict):
    description: str
    input: _Input
    classes: Annotated[int, pydantic.Field(ge=2)]
    head_channels: Annotated[list[_Count], pydantic.Field(min_length=1)]
    stem: Annotated[list[_StemOperator], pydantic.Field(min_length=1)]
    stages: Annotated[list[_Stage], pydantic.Field(min_length=1)]
    candidates: Annotated[dict[_Name, _Operator], pydantic.Field(min_length=1)]


class _Cursor:
    """Walks through the network and gives each operator the shape that reaches it."""

    def __init__(self, channels: int, size: int) -> None:
        self.channels, self.height, self.width = channels, size, size

    def spec(self, operator: _Operator, channels: int, stride: int) -> OpSpec:
        fields: dict[str, Any] = operator.model_dump(exclude={"channels", "stride"})
        return OpSpec(
            **fields,
            in_channels=self.channels,
            out_channels=channels,
            height=self.height,
            width=self.width,
            stride=stride,
        )

    def advance(self, spec: OpSpec) -> OpSpec:
        self.channels, (self.height, self.width) = spec.out_channels, spec.output_size
        return spec


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
    cursor = _Cursor(content.input.channels, content.input.size)
    stem = tuple(cursor.advance(cursor.spec(op, op.channels, op.stride)) for op in content.stem)
    layers = tuple(_layers(content, cursor))
    heads: dict[int, tuple[OpSpec, ...]] = {}
    for channels in content.head_channels:
        head = _Cursor(cursor.channels, cursor.height)
        last = head.advance(head.spec(_Operator(kind="conv"), channels, 1))
        fc = head.spec(_Operator(kind="classifier", activation="none"), content.classes, 1)
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


def _layers(content: _SpaceFile, cursor: _Cursor) -> Iterator[Layer]:
    index = 0
    for stage_number, stage in enumerate(content.stages, start=1):
        for repeat in range(stage.repeats):
            index += 1
            stride = stage.stride if repeat == 0 else 1
            candidates = {name: cursor.spec(op, stage.channels, stride) for name, op in content.candidates.items()}
            yield Layer(index, stage_number, candidates)
            cursor.advance(next(iter(candidates.values())))
