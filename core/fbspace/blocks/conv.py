"""conv: convolution → BN → activation, the stem and the last 1x1."""

import math

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

    def count(self, spec: OpSpec) -> tuple[int, int]:
        """Return what counting the module gives."""
        weights = spec.kernel**2 * spec.in_channels * spec.out_channels // spec.groups
        return weights * math.prod(self.output_size(spec)), weights + 2 * spec.out_channels
