"""pool: global average pool → 1x1 convolution → activation, before the classifier of MobileNetV3 and FBNetV2."""

from collections import OrderedDict
from dataclasses import dataclass

from fbbase.options import option
from fbspace.blocks import Block, Module
from fbspace.opspec import OpSpec


@dataclass(frozen=True)
class Pool(Block):
    """N, C_in, H, W → N, C_out, 1, 1."""

    has_kernel = False

    bias: bool = option(True, "whether the convolution has a bias: MobileNetV3's has, FBNetV2's has not")

    def build(self, spec: OpSpec) -> Module:
        """Build a pool."""
        from torch import nn

        from fbspace.layers import ACTIVATION_LAYERS, Mean

        conv = nn.Conv2d(spec.in_channels, spec.out_channels, 1, bias=self.bias)
        activation = ACTIVATION_LAYERS[spec.activation]()
        return nn.Sequential(OrderedDict(mean=Mean(True), conv=conv, activation=activation))

    def count(self, spec: OpSpec) -> tuple[int, int]:
        """Return what counting the module gives."""
        weights = spec.in_channels * spec.out_channels
        return weights, weights + self.bias * spec.out_channels

    def output_size(self, spec: OpSpec) -> tuple[int, int]:
        """Pooling ends in 1x1."""
        return 1, 1
