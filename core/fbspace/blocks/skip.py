"""skip: leave the layer out; where the shape changes, a strided 1x1 conv → BN → activation takes its place."""

from torch import nn

from fbspace.layers import conv_bn
from fbspace.opspec import OpSpec


def build(spec: OpSpec) -> nn.Module:
    """Build an identity, or the 1x1 convolution that public FBNet code uses where shapes differ."""
    if spec.is_identity:
        return nn.Identity()
    return conv_bn(spec.in_channels, spec.out_channels, 1, spec.stride, activation=spec.activation)
