"""pool: global average pool → 1x1 convolution → activation, before the classifier of MobileNetV3 and V4 and FBNetV2."""

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
    norm: bool = option(False, "whether batch normalisation follows the convolution, as in MobileNetV4")

    def build(self, spec: OpSpec) -> Module:
        """Build a pool."""
        from torch import nn

        from fbspace.layers import ACTIVATION_LAYERS, Mean

        conv = nn.Conv2d(spec.in_channels, spec.out_channels, 1, bias=self.bias)
        layers: OrderedDict[str, nn.Module] = OrderedDict(mean=Mean(True), conv=conv)
        if self.norm:
            layers["norm"] = nn.BatchNorm2d(spec.out_channels)
        return nn.Sequential(layers | {"activation": ACTIVATION_LAYERS[spec.activation]()})

    def count(self, spec: OpSpec) -> tuple[int, int]:
        """Return what counting the module gives."""
        weights = spec.in_channels * spec.out_channels
        return weights, weights + (self.bias + 2 * self.norm) * spec.out_channels

    def output_size(self, spec: OpSpec) -> tuple[int, int]:
        """Pooling ends in 1x1."""
        return 1, 1
