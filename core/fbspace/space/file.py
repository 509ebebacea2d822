"""A space's file: a TOML table that a person can read; what is wrong with it is said with its line."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import pydantic

from fbbase.errors import FbError
from fbbase.files import read_text
from fbbase.parsing import parse_toml
from fbbase.plugins import PluginFolder
from fbspace.blocks import block_class, block_of, build_block
from fbspace.errors import SpaceError
from fbspace.operators import Count, Cursor, Expansion, Operator, PlacedOperator, Sides, Strict
from fbspace.opspec import MOST_LAYERS, OpSpec
from fbspace.space.space import Layer, Space
from fbspace.space.toml_lines import line_of

SPACES = PluginFolder("space", "fbspace.spaces", suffix=".toml")

FILE_BYTES = 1 << 20
"""A space's file is a few kilobytes."""
MOST_OPERATORS = 2_000_000
"""Of all widths, expansions and sizes together."""

_Name = Annotated[str, pydantic.StringConstraints(pattern=r"^[A-Za-z0-9_.-]+$")]


def _listed(value: Any) -> Any:
    """Return one value as a list of one."""
    return value if isinstance(value, list) else [value]


def _ascending(values: list[Any]) -> list[Any]:
    return sorted(set(values))


_Counts = Annotated[
    list[Count], pydantic.BeforeValidator(_listed), pydantic.AfterValidator(_ascending), pydantic.Field(min_length=1)
]
"""Options of a width or a size: a number, or a list of them."""

_Expansions = Annotated[list[Expansion], pydantic.AfterValidator(_ascending), pydantic.Field(min_length=1)]


class _Inputs(Sides):
    size: _Counts | None = None


class _Stage(Strict):
    channels: _Counts
    repeats: Count
    stride: Count
    expansions: _Expansions | None = None
    one_width: bool = False
    candidates: Annotated[list[_Name], pydantic.Field(min_length=1)] | None = None


class _SpaceFile(Strict):
    description: str
    input: _Inputs
    classes: Annotated[Count, pydantic.Field(ge=2)]
    head_channels: Annotated[list[Count], pydantic.Field(min_length=1)] | None = None
    head: Annotated[list[PlacedOperator], pydantic.Field(min_length=1)] | None = None
    expansions: _Expansions | None = None
    stem: Annotated[list[PlacedOperator], pydantic.Field(min_length=1)]
    stages: Annotated[list[_Stage], pydantic.Field(min_length=1)]
    candidates: Annotated[dict[_Name, Operator], pydantic.Field(min_length=1)]


def load_space(name: str, build: bool = False) -> Space:
    """Return a space by name, or from a file if `name` ends in .toml; with `build` its blocks are built for a trial.

    Raises SpaceError, which names the line, and UnknownNameError.
    """
    path = Path(name) if name.endswith(".toml") else SPACES.path(name)
    text = read_text(path, "search space", FILE_BYTES)
    told = parse_toml(text, str(path), SpaceError)
    try:
        content = _SpaceFile.model_validate(told)
        return _build(path.stem if name.endswith(".toml") else name, content, build)
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


def _tried(spec: OpSpec, build: bool) -> OpSpec:
    """Return an operator; with `build` its block is built, without memory for its weights. Raises SpecError."""
    if build:
        import torch

        with torch.device("meta"):
            build_block(spec)
    return spec


def _build(name: str, content: _SpaceFile, build: bool) -> Space:
    _refuse_too_many(content)
    width = content.input.width
    sizes = tuple(content.input.size or [content.input.height or 0])
    cursor = Cursor(content.input.channels, sizes[-1], width or sizes[-1])
    stem = []
    for number, placed in enumerate(content.stem):
        with _at("stem", number):
            stem.append(_tried(cursor.place(placed), build))
    layers = tuple(_layers(content, cursor, build))
    return Space(
        name=name,
        description=content.description,
        input_channels=content.input.channels,
        input_size=sizes[-1],
        classes=content.classes,
        stem=tuple(stem),
        layers=layers,
        heads=_heads(content, cursor),
        sizes=sizes if len(sizes) > 1 else (),
        input_width=width,
    )


def _refuse_too_many(content: _SpaceFile) -> None:
    """Refuse a space that nobody could measure or search, before its operators are made."""
    layers = sum(stage.repeats for stage in content.stages)
    if layers > MOST_LAYERS:
        raise _MisplacedError(("stages",), f"they have {layers} layers together, at most {MOST_LAYERS} are possible")
    operators, ins = 0, 1
    for stage in content.stages:
        outs, expansions = len(stage.channels), len(stage.expansions or content.expansions or [1])
        operators += stage.repeats * max(ins, outs) * outs * expansions
        ins = outs
    operators *= len(content.candidates) * len(content.input.size or [1])
    if operators > MOST_OPERATORS:
        raise _MisplacedError(("stages",), f"they have {operators} operators, at most {MOST_OPERATORS} are possible")


def _heads(content: _SpaceFile, cursor: Cursor) -> dict[int, tuple[OpSpec, ...]]:
    """Return the heads by the width of their first operator."""
    fc = PlacedOperator(kind="classifier", activation="none", channels=content.classes)
    if (content.head is None) == (content.head_channels is None):
        raise _MisplacedError(
            ("head",), "a space has head_channels, widths of a 1x1 convolution, or a head of operators, not both"
        )
    every = content.head_channels or []
    operators = [[PlacedOperator(kind="conv", channels=channels)] for channels in every] or [content.head or []]
    heads = {}
    for head in operators:
        with _at("head" if content.head else "head_channels"):
            here = cursor.copy()
            specs = [here.place(operator) for operator in [*head, fc]]
            heads[specs[0].out_channels] = tuple(specs)
    return heads


def _layers(content: _SpaceFile, cursor: Cursor, build: bool) -> Iterator[Layer]:
    index, ins = 0, [cursor.channels]
    listed = content.expansions is not None or any(stage.expansions for stage in content.stages)
    masked = listed or any(len(stage.channels) > 1 for stage in content.stages)
    for stage_number, stage in enumerate(content.stages, start=1):
        expansions = stage.expansions or content.expansions or []
        operators = _candidates(content, stage_number - 1)
        for repeat in range(stage.repeats):
            index += 1
            stride = stage.stride if repeat == 0 else 1
            candidates = {}
            for name, operator in operators.items():
                with _at("candidates", name):
                    largest = _expanded(operator, expansions, listed)
                    candidates[name] = _tried(cursor.spec(largest, stage.channels[-1], stride), build)
            if len({block_of(spec).output_size(spec) for spec in candidates.values()}) > 1:
                raise _MisplacedError(
                    ("candidates",), "they end in maps of other sizes, so none can take another's place"
                )
            if masked:
                keeps = stage.one_width and repeat > 0
                outs = tuple(stage.channels)
                yield Layer(index, stage_number, candidates, tuple(ins), tuple(expansions), outs, keeps)
            else:
                yield Layer(index, stage_number, candidates)
            ins = stage.channels
            cursor.advance(next(iter(candidates.values())))


def _candidates(content: _SpaceFile, stage: int) -> dict[str, Operator]:
    """Return the candidates of a stage's layers: all, unless it names some."""
    names = content.stages[stage].candidates
    for name in names or ():
        if name not in content.candidates:
            known = ", ".join(content.candidates)
            raise _MisplacedError(("stages", stage, "candidates"), f"there is no candidate {name!r}; there are {known}")
    return content.candidates if names is None else {name: content.candidates[name] for name in names}


def _expanded(operator: Operator, expansions: list[float], listed: bool) -> Operator:
    """Return a candidate at the largest of the expansions. Raises SpaceError where it has one of its own."""
    if not listed or not block_class(operator.kind).expands:
        return operator
    if "expansion" in operator.model_fields_set:
        raise SpaceError("it has an expansion of its own beside the listed expansions; leave one of them away")
    if not expansions:
        raise SpaceError("another stage lists expansions and this candidate's has none; list them for the whole space")
    return operator.model_copy(update={"expansion": expansions[-1]})
