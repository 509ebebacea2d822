"""What is decided of a network: which candidate each layer is, and how wide; the decisions by name."""

from dataclasses import dataclass
from typing import Literal

from fbspace.blocks import block_of
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
