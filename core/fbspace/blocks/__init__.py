"""One file per kind of block; each has `build(spec) -> nn.Module`. The module is the block's only description.

A block with many widths may have `count(spec)` as well, what counting the module gives in a closed form.
"""

from typing import TYPE_CHECKING

from fbbase.plugins import PluginFolder
from fbspace.opspec import OpSpec

if TYPE_CHECKING:
    from torch import nn

BLOCKS = PluginFolder("block", "fbspace.blocks")


def build_block(spec: OpSpec) -> "nn.Module":
    """Return the module of an operator: N, in_channels, height, width → N, out_channels, *output_size."""
    module: nn.Module = BLOCKS.module(spec.kind).build(spec)
    return module
