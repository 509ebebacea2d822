"""classifier: global average pool → fully connected, the end of every network."""

from typing import TYPE_CHECKING

from fbspace.blocks import Block
from fbspace.opspec import OpSpec

if TYPE_CHECKING:
    from torch import nn


class Classifier(Block):
    """N, C, H, W → N, classes."""

    has_kernel = False

    def build(self, spec: OpSpec) -> "nn.Module":
        """Build a classifier."""
        from fbspace.layers import PooledLinear

        return PooledLinear(spec.in_channels, spec.out_channels)

    def output_size(self, spec: OpSpec) -> tuple[int, int]:
        """Pooling ends in 1x1."""
        return 1, 1
