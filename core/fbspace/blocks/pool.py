"""pool: global average pool → 1x1 convolution with bias → activation, before the classifier of MobileNetV3."""

from typing import TYPE_CHECKING

from fbspace.blocks import Block
from fbspace.opspec import OpSpec

if TYPE_CHECKING:
    from torch import nn


class Pool(Block):
    """N, C_in, H, W → N, C_out, 1, 1."""

    has_kernel = False

    def build(self, spec: OpSpec) -> "nn.Module":
        """Build a pool."""
        from fbspace.layers import PooledConv

        return PooledConv(spec.in_channels, spec.out_channels, spec.activation)

    def output_size(self, spec: OpSpec) -> tuple[int, int]:
        """Pooling ends in 1x1."""
        return 1, 1
