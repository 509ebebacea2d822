"""pool: global average pool → 1x1 convolution with bias → activation, before the classifier of MobileNetV3."""

from collections import OrderedDict

from fbspace.blocks import Block, Module
from fbspace.opspec import OpSpec


class Pool(Block):
    """N, C_in, H, W → N, C_out, 1, 1."""

    has_kernel = False

    def build(self, spec: OpSpec) -> Module:
        """Build a pool."""
        from torch import nn

        from fbspace.layers import ACTIVATION_LAYERS, Mean

        conv, activation = nn.Conv2d(spec.in_channels, spec.out_channels, 1), ACTIVATION_LAYERS[spec.activation]()
        return nn.Sequential(OrderedDict(mean=Mean(True), conv=conv, activation=activation))

    def output_size(self, spec: OpSpec) -> tuple[int, int]:
        """Pooling ends in 1x1."""
        return 1, 1
