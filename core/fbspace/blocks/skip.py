"""skip: leave the layer out; where the shape changes, a strided 1x1 conv → BN → activation takes its place."""

import math

from fbspace.blocks import Block, Module, Start, is_identity
from fbspace.opspec import OpSpec


class Skip(Block):
    """The identity, or the 1x1 convolution that public FBNet code uses where shapes differ."""

    has_kernel = False
    leaves_out = True

    def build(self, spec: OpSpec) -> Module:
        """Build an identity or a convolution."""
        from torch import nn

        from fbspace.layers import conv_bn

        if is_identity(spec):
            return nn.Identity()
        return conv_bn(spec.in_channels, spec.out_channels, 1, spec.stride, activation=spec.activation)

    def count(self, spec: OpSpec) -> tuple[int, int]:
        """Return what counting the module gives."""
        weights = 0 if is_identity(spec) else spec.in_channels * spec.out_channels
        return weights * math.prod(self.output_size(spec)), weights + 2 * spec.out_channels if weights else 0

    def start(self, module: Module) -> Start:
        """The convolution, where it is one, is what other blocks begin near."""
        return Start((), module)
