"""Space: which networks may be built, and the operators that they are made of."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from fbspace.blocks import block_of, is_identity
from fbspace.errors import ArchitectureError, SpaceError
from fbspace.operators import Cursor
from fbspace.opspec import OpSpec


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer to be searched: the candidates by name, all of the same input and output shape.

    A layer may have several output `widths`, and so may the one before it (`ins`), and several `expansions`, of which
    all candidates that expand take one. Candidates are then told at the largest; empty is what they tell. A layer that
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
        return self.expansions if self.expansions and block_of(spec).expands else (spec.expansion,)


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
    input `sizes` may be chosen, `input_size` and the shapes of all operators are those of the largest. Images are as
    wide as they are high, unless there is an `input_width`; `input_size` is then their height.
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
    input_width: int | None = None

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        """Shape of one input image: 1, channels, height, width; of the largest where there are several."""
        return 1, self.input_channels, self.input_size, self.input_width or self.input_size

    @property
    def input_sides(self) -> str:
        """The size of images in words: 224, or 192x256 where height and width differ."""
        _, _, height, width = self.input_shape
        return f"{height}x{width}" if height != width else str(height)

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
        """Return, for every decision, which of its options leave the layer out, as skip does."""
        kinds = {
            (layer.index, "block"): [block_of(spec).leaves_out for spec in layer.candidates.values()]
            for layer in self.layers
        }
        return [kinds.get((d.layer, d.what), [False] * len(d.options)) for d in self.decisions]

    def specs(self, choices: Sequence[str], head_channels: int | None = None) -> list[OpSpec]:
        """Return the operators that run in one network, in order. Raises ArchitectureError as `all_specs` does."""
        return [spec for spec in self.all_specs(choices, head_channels) if not is_identity(spec)]

    def all_specs(self, choices: Sequence[str], head_channels: int | None = None) -> list[OpSpec]:
        """Return the operators of one network in order, stem to classifier, one for every layer: identities too.

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
        size = int(chosen.get((0, "size"), self.input_size))
        cursor = Cursor(self.input_channels, size, self.input_width or size)
        specs = [cursor.follow(spec) for spec in self.stem]
        for layer in self.layers:
            spec = layer.candidates[chosen[layer.index, "block"]]
            width = int(chosen.get((layer.index, "width"), spec.out_channels))
            width = cursor.channels if layer.keeps_width else width
            expansion = float(chosen.get((layer.index, "expansion"), spec.expansion))
            fits = expansion if block_of(spec).expands else spec.expansion
            specs.append(cursor.follow(spec, out_channels=width, expansion=fits))
        return specs + [cursor.follow(spec) for spec in self.heads[head]]

    def cursors(self) -> dict[int, list[Cursor]]:
        """Return, for every size, a cursor in front of the stem, of every layer, and of the head."""
        found = {}
        for size in self.sizes or (self.input_size,):
            cursor = Cursor(self.input_channels, size, self.input_width or size)
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
        """x where the space holds 10^x networks; what does not expand is one, whatever the expansion."""
        blocks = [sum(len(layer.expansions_of(spec)) for spec in layer.candidates.values()) for layer in self.layers]
        widths = [max(1, len(layer.widths)) for layer in self.layers if not layer.keeps_width]
        return sum(map(math.log10, [*blocks, *widths, max(1, len(self.sizes))]))

    def operators(self, thin: Thin | None = None, options: Options | None = None) -> list[OpSpec]:
        """Return every distinct operator that runs in one of its networks, in network order.

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
        return [spec for spec in every if not is_identity(spec)]

    @staticmethod
    def options(layer: Layer, at: Cursor) -> Iterator[OpSpec]:
        """Yield the operators that a layer may be where the cursor is: by width in, candidate, expansion, width out.

        What does not expand, such as skip, comes once for each expansion.
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
