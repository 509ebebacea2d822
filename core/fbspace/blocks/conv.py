"""conv: convolution → BN → activation, the stem and the last 1x1."""

from fbspace.blocks import Block, Module
from fbspace.opspec import OpSpec


class Conv(Block):
    """A plain convolution."""

    def build(self, spec: OpSpec) -> Module:
        """Build a plain convolution."""
        from fbspace.layers import conv_bn

        return conv_bn(
            spec.in_channels, spec.out_channels, spec.kernel, spec.stride, spec.groups, activation=spec.activation
        )
