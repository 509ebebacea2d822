"""One file per kind of block that masks know: all widths and expansions of a block in one set of weights.

A masked block is a module with `build(spec, widths) -> MaskedBlock`, for the kind of block of the same name. `spec` is
the largest of the blocks.
"""

import functools
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from fbbase.plugins import PluginFolder
from fbsearch.convolutions import use_own_convolutions
from fbsearch.supernet import adapt
from fbspace.blocks import build_block
from fbspace.opspec import OpSpec

MASKED = PluginFolder("kind of block with masks", "fbsearch.masked")


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


class MaskedBlock(Protocol):
    """What `build` returns, a module."""

    def __call__(self, x: Tensor, choice: Choice) -> Tensor:
        """Map N, the largest C_in, H, W, zero in the channels left out, to N, the largest C_out, H/stride, W/stride."""
        ...

    def weights(self, spec: OpSpec) -> nn.Module:
        """Return the module whose parameters begin with those of one of the blocks, by name."""
        ...


def build_masked(spec: OpSpec, widths: Widths) -> nn.Module:
    """Return the masked block of a layer. Raises UnknownNameError for a kind of block without masks."""
    block: nn.Module = MASKED.load(spec.kind).build(spec, widths)
    return block


def first_filters(spec: OpSpec, source: nn.Module) -> dict[str, Tensor]:
    """Return the parameters of an ordinary block: the first of those of a larger module, which has the same names."""
    larger = dict(source.named_parameters())
    return {
        name: larger[name][tuple(map(slice, parameter.shape))] for name, parameter in _template(spec).named_parameters()
    }


def run_first_filters(spec: OpSpec, source: nn.Module, x: Tensor) -> Tensor:
    """Return what an ordinary block of the first filters makes of x; gradients reach the larger module's."""
    y: Tensor = torch.func.functional_call(_template(spec), first_filters(spec, source), (x,))
    return y


@torch.no_grad()
def inherit(spec: OpSpec, source: nn.Module) -> nn.Module:
    """Return an ordinary block with the first filters of a larger module as its own."""
    block = build_block(spec)
    for name, value in first_filters(spec, source).items():
        block.get_parameter(name).data = value.clone()
    return block


@functools.lru_cache(maxsize=4096)
def _template(spec: OpSpec) -> nn.Module:
    """Return an ordinary block without memory for its weights."""
    with torch.device("meta"):
        block = build_block(spec)
    adapt(block)
    use_own_convolutions(block)
    return block
