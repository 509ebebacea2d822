"""Space: which networks may be built, read from a TOML table a person can read."""

import contextlib
import math
import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic

from fbbase.errors import FbError, UnknownNameError
from fbbase.files import read_text
from fbbase.plugins import PluginFolder
from fbspace.blocks import BLOCKS, build_block
from fbspace.errors import ArchitectureError, SpaceError
from fbspace.operators import Count, Cursor, Operator, PlacedOperator, Strict
from fbspace.opspec import OpSpec
from fbspace.toml_lines import line_of

SPACES = PluginFolder("space", "fbspace.spaces", suffix=".toml")


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer to be searched: the candidates by name, all of the same input and output shape.

    A layer may have several output `widths`, and so may the one before it (`ins`), and several `expansions`, of which
    all candidates but skip take one. Candidates are then told at the largest; empty is what they tell. A layer that
    `keeps_width` decides on none: it has that of the layer before it.
    """

    index: int
    stage: int
    candidates: dict[str, OpSpec]
    ins: tuple[int, ...] = ()
    expansions: tuple[float, ...] = ()
    widths: tuple[int, ...] = ()
    keeps_width: bool = False

    def expansions_of(self, spec: OpSpec) -> tuple[float, ...]:
        """Return the expansions that a candidate may have."""
        return self.expansions if self.expansions and spec.kind != "skip" else (spec.expansion,)


@dataclass(frozen=True, slots=True)
class Decision:
    """One of the decisions that make a network of a space, with its options by name; layer 0 is the whole network."""

    layer: int
    what: Literal["size", "block", "expansion", "width"]
    options: tuple[str, ...]

    @property
    def name(self) -> str:
        """Its name in logs: size, layer_03 (which block), layer_03_expansion, layer_03_width."""
        if self.what == "size":
            return self.what
        return f"layer_{self.layer:02d}" + (f"_{self.what}" if self.what != "block" else "")


Thin = Callable[[Sequence[int]], Sequence[int]]
Options = Callable[[Layer, Cursor], Iterator[OpSpec]]


@dataclass(frozen=True, slots=True)
class Space:
    """A search space: fixed stem, searchable layers, and a head (1x1 convolution, classifier) of a few widths.

    `heads` maps the width of the last 1x1 convolution to the head's operators; the first is the default. Where several
    input `sizes` may be chosen, `input_size` and the shapes of all operators are those of the largest.
    """

    name: str
    description: str
    input_channels: int
    input_size: int
    classes: int
    stem: tuple[OpSpec, ...]
    layers: tuple[Layer, ...]
    heads: dict[int, tuple[OpSpec, ...]]
    sizes: tuple[int, ...] = ()

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        """Shape of one input image: 1, channels, height, width; of the largest where there are several."""
        return 1, self.input_channels, self.input_size, self.input_size

    @property
    def head_channels(self) -> int:
        """Width of the default head."""
        return next(iter(self.heads))

    @property
    def last_widths(self) -> tuple[int, ...]:
        """Widths that may come into the head; empty where there is one, which the last layer's candidates tell."""
        return self.layers[-1].widths if self.layers else ()

    @property
    def is_masked(self) -> bool:
        """Whether widths, expansions or sizes are decided beside the blocks (FBNetV2)."""
        return len(self.sizes) > 1 or any(layer.widths or layer.expansions for layer in self.layers)

    def refuse_masks(self, what: str) -> None:
        """Raise SpaceError where more than blocks is decided."""
        if self.is_masked:
            raise SpaceError(
                f"{what} takes spaces whose layers choose among blocks alone; in {self.name} widths, expansions or "
                "sizes are chosen too"
            )

    @property
    def decisions(self) -> tuple[Decision, ...]:
        """What is decided, in order: the size if there are several, then of every layer block, expansion, width."""
        found = [Decision(0, "size", tuple(map(str, self.sizes)))] if len(self.sizes) > 1 else []
        for layer in self.layers:
            found.append(Decision(layer.index, "block", tuple(layer.candidates)))
            if len(layer.expansions) > 1:
                found.append(Decision(layer.index, "expansion", tuple(f"{e:g}" for e in layer.expansions)))
            if len(layer.widths) > 1 and not layer.keeps_width:
                found.append(Decision(layer.index, "width", tuple(map(str, layer.widths))))
        return tuple(found)

    @property
    def skips(self) -> list[list[bool]]:
        """Return, for every decision, which of its options are skip."""
        kinds = {
            (layer.index, "block"): [spec.kind == "skip" for spec in layer.candidates.values()] for layer in self.layers
        }
        return [kinds.get((d.layer, d.what), [False] * len(d.options)) for d in self.decisions]

    def specs(self, choices: Sequence[str], head_channels: int | None = None) -> list[OpSpec]:
        """Return the operators of one network in order, stem to classifier, identities included.

        There is a choice for every decision. Raises ArchitectureError for the wrong number of choices, and an unknown
        option or head.
        """
        decisions = self.decisions
        if len(choices) != len(decisions):
            what = "decisions" if self.is_masked else "layers"
            raise ArchitectureError(f"space {self.name} has {len(decisions)} {what}, but {len(choices)} are chosen")
        head = self.head_channels if head_channels is None else head_channels
        if head not in self.heads:
            known = ", ".join(map(str, self.heads))
            raise ArchitectureError(f"space {self.name} has no head of {head} channels; it has {known}")
        chosen: dict[tuple[int, str], str] = dict(zip(((d.layer, d.what) for d in decisions), choices, strict=True))
        for decision, choice in zip(decisions, choices, strict=True):
            if choice not in decision.options:
                what = "candidate" if decision.what == "block" else decision.what
                where = f"layer {decision.layer} of space {self.name}" if decision.layer else f"space {self.name}"
                raise ArchitectureError(f"{where} has no {what} {choice!r}; it has {', '.join(decision.options)}")
        return self._specs(chosen, head)

    def _specs(self, chosen: dict[tuple[int, str], str], head: int) -> list[OpSpec]:
        cursor = Cursor(self.input_channels, int(chosen.get((0, "size"), self.input_size)))
        specs = [cursor.follow(spec) for spec in self.stem]
        for layer in self.layers:
            spec = layer.candidates[chosen[layer.index, "block"]]
            width = int(chosen.get((layer.index, "width"), spec.out_channels))
            width = cursor.channels if layer.keeps_width else width
            expansion = float(chosen.get((layer.index, "expansion"), spec.expansion))
            fits = spec.expansion if spec.kind == "skip" else expansion
            specs.append(cursor.follow(spec, out_channels=width, expansion=fits))
        return specs + [cursor.follow(spec) for spec in self.heads[head]]

    def cursors(self) -> dict[int, list[Cursor]]:
        """Return, for every size, a cursor in front of the stem, of every layer, and of the head."""
        found = {}
        for size in self.sizes or (self.input_size,):
            cursor = Cursor(self.input_channels, size)
            at = [cursor.copy()]
            for spec in self.stem:
                cursor.follow(spec)
            for layer in self.layers:
                at.append(cursor.copy())
                cursor.follow(next(iter(layer.candidates.values())))
            found[size] = [*at, cursor]
        return found

    def names(self, choices: Sequence[int]) -> tuple[str, ...]:
        """Return the options of every decision that indices choose."""
        return tuple(decision.options[i] for decision, i in zip(self.decisions, choices, strict=True))

    @property
    def networks_log10(self) -> float:
        """x where the space holds 10^x networks; skip is one, whatever its expansion."""
        blocks = [sum(len(layer.expansions_of(spec)) for spec in layer.candidates.values()) for layer in self.layers]
        widths = [max(1, len(layer.widths)) for layer in self.layers if not layer.keeps_width]
        return sum(map(math.log10, [*blocks, *widths, max(1, len(self.sizes))]))

    def operators(self, thin: Thin | None = None, options: Options | None = None) -> list[OpSpec]:
        """Return every distinct operator of its networks, in network order; identities need no measuring.

        `thin` keeps some of the sizes and of the widths before the head, `options` some of what a layer may be.
        """
        thin, options = thin or tuple, options or self.options
        cursors = self.cursors()
        at = [cursors[size] for size in thin(sorted(cursors))]
        every: dict[OpSpec, None] = {}
        for places in at:
            every |= dict.fromkeys(self.placed(self.stem, places[0]))
        for number, layer in enumerate(self.layers, start=1):
            for places in at:
                every |= dict.fromkeys(options(layer, places[number]))
        for head in self.heads.values():
            for places in at:
                for channels in thin(self.last_widths) or (places[-1].channels,):
                    every |= dict.fromkeys(self.placed(head, places[-1].copy(channels)))
        return [spec for spec in every if not spec.is_identity]

    @staticmethod
    def options(layer: Layer, at: Cursor) -> Iterator[OpSpec]:
        """Yield the operators that a layer may be where the cursor is: by width in, candidate, expansion, width out.

        Skip has no expansion, and comes once for each.
        """
        for channels in layer.ins or (at.channels,):
            here = at.copy(channels)
            for spec in layer.candidates.values():
                own = layer.expansions_of(spec)
                for expansion in layer.expansions or own:
                    for width in (channels,) if layer.keeps_width else layer.widths or (spec.out_channels,):
                        taken = expansion if expansion in own else own[0]
                        yield here.at(spec, out_channels=width, expansion=taken)

    @staticmethod
    def placed(specs: Sequence[OpSpec], cursor: Cursor) -> list[OpSpec]:
        """Return operators one behind the other, from where the cursor is."""
        cursor = cursor.copy()
        return [cursor.follow(spec) for spec in specs]


_Name = Annotated[str, pydantic.StringConstraints(pattern=r"^[A-Za-z0-9_.-]+$")]


def _listed(value: Any) -> Any:
    """Return one value as a list of one."""
    return value if isinstance(value, list) else [value]


def _ascending(values: list[Any]) -> list[Any]:
    return sorted(set(values))


_Counts = Annotated[
    list[Count],
    pydantic.BeforeValidator(_listed),
    pydantic.AfterValidator(_ascending),
    pydantic.Field(min_length=1),
]
"""Options of a width or a size: a number, or a list of them."""

_Expansions = Annotated[
    list[Annotated[float, pydantic.Field(gt=0)]], pydantic.AfterValidator(_ascending), pydantic.Field(min_length=1)
]


class _Inputs(Strict):
    channels: Count
    size: _Counts


class _Stage(Strict):
    channels: _Counts
    repeats: Count
    stride: Count
    expansions: _Expansions | None = None
    one_width: bool = False


class _SpaceFile(Strict):
    description: str
    input: _Inputs
    classes: Annotated[int, pydantic.Field(ge=2)]
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
    sizes = tuple(content.input.size)
    cursor = Cursor(content.input.channels, sizes[-1])
    stem = []
    for number, placed in enumerate(content.stem):
        with _at("stem", number):
            stem.append(cursor.place(placed))
            try_block(stem[-1])
    layers = tuple(_layers(content, cursor, try_block))
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
    )


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


def _operators(content: _SpaceFile) -> Iterator[tuple[tuple[str | int, ...], Operator]]:
    """Yield every operator that the file tells, with its place."""
    yield from ((("stem", number), operator) for number, operator in enumerate(content.stem))
    yield from ((("head", number), operator) for number, operator in enumerate(content.head or []))
    yield from ((("candidates", name), operator) for name, operator in content.candidates.items())


def _layers(content: _SpaceFile, cursor: Cursor, try_block: Callable[[OpSpec], None]) -> Iterator[Layer]:
    index, ins = 0, [cursor.channels]
    listed = content.expansions is not None or any(stage.expansions for stage in content.stages)
    masked = listed or any(len(stage.channels) > 1 for stage in content.stages)
    for stage_number, stage in enumerate(content.stages, start=1):
        expansions = stage.expansions or content.expansions or []
        for repeat in range(stage.repeats):
            index += 1
            stride = stage.stride if repeat == 0 else 1
            candidates = {}
            for name, operator in content.candidates.items():
                with _at("candidates", name):
                    largest = _expanded(operator, expansions, listed)
                    candidates[name] = cursor.spec(largest, stage.channels[-1], stride)
                    try_block(candidates[name])
            if masked:
                keeps = stage.one_width and repeat > 0
                outs = tuple(stage.channels)
                yield Layer(index, stage_number, candidates, tuple(ins), tuple(expansions), outs, keeps)
            else:
                yield Layer(index, stage_number, candidates)
            ins = stage.channels
            cursor.advance(next(iter(candidates.values())))


def _expanded(operator: Operator, expansions: list[float], listed: bool) -> Operator:
    """Return a candidate at the largest of the expansions. Raises SpaceError where it has one of its own."""
    if not listed or operator.kind == "skip":
        return operator
    if "expansion" in operator.model_fields_set:
        raise SpaceError("it has an expansion of its own beside the listed expansions; leave one of them away")
    if not expansions:
        raise SpaceError("another stage lists expansions and this candidate's has none; list them for the whole space")
    return operator.model_copy(update={"expansion": expansions[-1]})
