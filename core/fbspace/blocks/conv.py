"""conv: convolution → BN → activation, the stem and the last 1x1."""

from torch import nn

from fbspace.layers import conv_bn
from fbspace.opspec import OpSpec


def build(spec: OpSpec) -> nn.Module:
    """Build a plain convolution."""
    return conv_bn(
        spec.in_channels, spec.out_channels, spec.kernel, spec.stride, spec.groups, activation=spec.activation
    )
