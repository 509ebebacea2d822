"""skip: leave the layer out; where the shape changes, a strided 1x1 conv → BN → activation takes its place."""

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

    def start(self, module: Module) -> Start:
        """The convolution, where it is one, is what other blocks begin near."""
        return Start((), module)
