"""One file per kind of block: a class that builds an operator's module, and says of it what tables and searches ask.

What a space is made of is known without torch, which takes seconds to import: blocks import it where they build, and
call its modules `Module` in types.
"""

import functools
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, ClassVar

from fbbase.options import check_options, options_of
from fbbase.plugins import Plugins
from fbspace.errors import SpecError
from fbspace.opspec import OpSpec, Value
from fbspace.widths import round_channels

if TYPE_CHECKING:
    from torch.nn import Module as Module
else:
    Module = object


@dataclass(frozen=True, slots=True)
class Start:
    """The parts of a block's module that a search sets, so that the candidates of a layer begin alike.

    `path` leads from the input to `project`: convolution → BN → activation, or a module without weights that moves
    channels. `project` is a 1x1 convolution → BN; its output is the block's, plus the input where it `adds_input`.
    """

    path: tuple[Module, ...]
    project: Module
    adds_input: bool = False


class Block(ABC):
    """A kind of operator. Its fields are its own parameters, such as a dilation, each declared with `option(...)`."""

    has_kernel: ClassVar[bool] = True
    """Whether the operator's `kernel` means anything to it: comparisons of tables group by it."""
    expands: ClassVar[bool] = False
    """Whether `expansion` does: a width in the middle. A space's listed expansions are for such blocks."""
    leaves_out: ClassVar[bool] = False
    """Whether it stands for leaving the layer out, as skip does: the identity, which never runs, if shapes are kept."""

    @abstractmethod
    def build(self, spec: OpSpec) -> Module:
        """Return the module: N, in_channels, height, width → N, out_channels, *output_size.

        Raises SpecError for an operator that it cannot be.
        """

    def count(self, spec: OpSpec) -> tuple[int, int] | None:
        """Return multiply-accumulates and parameters in a closed form; None: the module is run on shapes to count."""
        return None

    def output_size(self, spec: OpSpec) -> tuple[int, int]:
        """Return height and width of the output: those of the input by the stride, rounded up."""
        return -(-spec.height // spec.stride), -(-spec.width // spec.stride)

    def middle_channels(self, spec: OpSpec) -> int | None:
        """Return the width in the middle, an axis of interpolation; None where it has none but those of its ends."""
        return round_channels(spec.in_channels * spec.expansion) if self.expands and spec.expansion != 1 else None

    def start(self, module: Module) -> Start | None:
        """Return what of a module that was built a search sets to begin alike (`--w-start alike`); None: nothing."""
        return None


BLOCKS = Plugins("block", "fbspace.blocks", base=Block)


@functools.cache
def block_class(kind: str) -> type[Block]:
    """Return the class of a kind of block. Raises as `Plugins.find` does, and SpecError for one of its parameters."""
    found = BLOCKS.find(kind)
    taken = {each.name for each in fields(OpSpec)} & {option.name for option in options_of(found)}
    if taken:
        raise SpecError(f"block {kind!r} has a parameter {taken.pop()!r}, which every operator has; call it otherwise")
    return found


def block_of(spec: OpSpec) -> Block:
    """Return an operator's block, made with its parameters. Raises UnknownNameError, FbError for wrong parameters."""
    return _block(spec.kind, spec.parameters, spec.own)


@functools.cache
def _block(kind: str, parameters: tuple[tuple[str, Value], ...], own: tuple[str, ...]) -> Block:
    """Make a block; by `own` the cache tells 2 from 2.0, as keys do."""
    wanted = own_parameters(kind, dict(parameters))
    if repr(wanted) != repr(parameters):
        raise SpecError(f"block {kind!r} has the parameters {wanted}, without those at their default, not {parameters}")
    return block_class(kind)(**dict(parameters))


def own_parameters(kind: str, given: Mapping[str, Value]) -> tuple[tuple[str, Value], ...]:
    """Return a block's own parameters as an operator has them: sorted, without those at their default.

    Raises UnknownNameError for the kind, FbError for a parameter it does not have, or a value it does not take.
    """
    known = options_of(block_class(kind))
    check_options(f"block {kind!r}", known, given, as_flags=False)
    defaults = {each.name: each.default for each in known}
    own = {each.name: each.type(given[each.name]) for each in known if each.name in given}
    return tuple(sorted((name, value) for name, value in own.items() if value != defaults[name]))


def parameters_of(spec: OpSpec) -> dict[str, Value]:
    """Return all of a block's own parameters by name, those at their default too."""
    block = block_of(spec)
    return {option.name: getattr(block, option.name) for option in options_of(type(block))}


def build_block(spec: OpSpec) -> Module:
    """Return the module of an operator: N, in_channels, height, width → N, out_channels, *output_size."""
    return block_of(spec).build(spec)


def only(spec: OpSpec, **values: Value) -> None:
    """Raise SpecError where an operator has another value than the only one that its block knows."""
    for name, value in values.items():
        if getattr(spec, name) != value:
            raise SpecError(f"{name} must be {value} in a {spec.kind!r} operator, not {getattr(spec, name)}")


def is_identity(spec: OpSpec) -> bool:
    """Whether the operator vanishes from the network: it leaves a layer out and changes no shape.

    It is never exported nor measured, and costs nothing by construction.
    """
    return spec.stride == 1 and spec.in_channels == spec.out_channels and block_of(spec).leaves_out
