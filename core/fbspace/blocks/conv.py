"""conv: convolution → BN → activation, the stem and the last 1x1."""

from typing import TYPE_CHECKING

from fbspace.blocks import Block
from fbspace.opspec import OpSpec

if TYPE_CHECKING:
    from torch import nn


class Conv(Block):
    """A plain convolution."""

    def build(self, spec: OpSpec) -> "nn.Module":
        """Build a plain convolution."""
        from fbspace.layers import conv_bn

        return conv_bn(
            spec.in_channels, spec.out_channels, spec.kernel, spec.stride, spec.groups, activation=spec.activation
        )
