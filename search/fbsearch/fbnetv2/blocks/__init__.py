"""One file per kind of block that masks know: all widths and expansions of a block in one set of weights.

A masked block stands for the kind of block of the same name, `fbspace.blocks`.
"""

import functools
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from fbbase.plugins import Plugins
from fbsearch.machine.convolutions import use_own_convolutions
from fbsearch.machine.norm import use_batch_statistics
from fbspace.blocks import build_block
from fbspace.opspec import OpSpec


@dataclass(frozen=True, slots=True)
class Widths:
    """The options of a layer: widths that may come in, expansions, and widths that may go out.

    Where it `keeps` the width, the one that goes out is the one that came in, by the same decision.
    """

    ins: tuple[int, ...]
    expansions: tuple[float, ...]
    outs: tuple[int, ...]
    keeps: bool = False


@dataclass(frozen=True, slots=True)
class Choice:
    """Weights of the options of a layer: of the width that comes in, of the expansion, of the width that goes out."""

    ins: Tensor
    expansions: Tensor
    outs: Tensor


class MaskedBlock(nn.Module, ABC):
    """A block of every width and expansion of a layer; `spec` is the largest of them."""

    def __init__(self, spec: OpSpec, widths: Widths) -> None:
        super().__init__()
        self.spec, self.widths = spec, widths

    @abstractmethod
    def forward(self, x: Tensor, choice: Choice) -> Tensor:
        """Map N, the largest C_in, H, W, zero in the channels left out, to N, the largest C_out, H/stride, W/stride."""

    @abstractmethod
    def weights(self, spec: OpSpec) -> nn.Module:
        """Return the module whose parameters begin with those of one of the blocks, by name."""


MASKED = Plugins("kind of block with masks", "fbsearch.fbnetv2.blocks", base=MaskedBlock)


def first_filters(spec: OpSpec, source: nn.Module) -> dict[str, Tensor]:
    """Return the parameters of an ordinary block: the first of those of a larger module, which has the same names."""
    larger = dict(source.named_parameters())
    return {name: larger[name][tuple(map(slice, shape))] for name, shape in _shapes(spec)}


def run_first_filters(spec: OpSpec, source: nn.Module, x: Tensor) -> Tensor:
    """Return what an ordinary block of the first filters makes of x; gradients reach the larger module's."""
    parameters = first_filters(spec, source)
    block, depthwise = _template(_structure(spec))
    for name, conv in depthwise.items():
        conv.groups = len(parameters[name])
    y: Tensor = torch.func.functional_call(block, parameters, (x,))
    return y


@torch.no_grad()
def inherit(spec: OpSpec, source: nn.Module) -> nn.Module:
    """Return an ordinary block with the first filters of a larger module as its own."""
    block = build_block(spec)
    for name, value in first_filters(spec, source).items():
        block.get_parameter(name).data = value.clone()
    return block


@functools.lru_cache(maxsize=256)
def _template(structure: OpSpec) -> tuple[nn.Module, dict[str, nn.Conv2d]]:
    """Return a block to run with the weights of any of its widths, and its convolutions whose groups follow them."""
    block = _without_memory(structure)
    use_batch_statistics(block)
    use_own_convolutions(block)
    convolutions = {f"{name}.weight": c for name, c in block.named_modules() if isinstance(c, nn.Conv2d)}
    return block, {name: c for name, c in convolutions.items() if c.groups > 1}


def _structure(spec: OpSpec) -> OpSpec:
    """Return the operator that stands for all that differ in widths and sizes alone."""
    outs = 8 if spec.in_channels == spec.out_channels else 16
    return replace(spec, in_channels=8, out_channels=outs, height=8, width=8, expansion=1 if spec.expansion == 1 else 2)


@functools.lru_cache(maxsize=4096)
def _shapes(spec: OpSpec) -> tuple[tuple[str, torch.Size], ...]:
    """Return the parameters' shapes by name; whole modules of so many widths would take 100 MB."""
    return tuple((name, parameter.shape) for name, parameter in _without_memory(spec).named_parameters())


def _without_memory(spec: OpSpec) -> nn.Module:
    with torch.device("meta"):
        return build_block(spec)
