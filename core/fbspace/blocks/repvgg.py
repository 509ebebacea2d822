"""repvgg: convolution with a bias → activation: RepVGG and MobileOne, their branches folded."""

import math

from fbspace.blocks import Block, Module
from fbspace.opspec import OpSpec


class RepVgg(Block):
    """The folded form, without batch normalisation; as many `groups` as channels make it depthwise (MobileOne)."""

    def build(self, spec: OpSpec) -> Module:
        """Build a convolution and its activation."""
        from torch import nn

        from fbspace.layers import ACTIVATION_LAYERS

        convolution = nn.Conv2d(
            spec.in_channels, spec.out_channels, spec.kernel, spec.stride, spec.kernel // 2, groups=spec.groups
        )
        return nn.Sequential(convolution, ACTIVATION_LAYERS[spec.activation]())

    def count(self, spec: OpSpec) -> tuple[int, int]:
        """Return what counting the module gives."""
        weights = spec.kernel**2 * spec.in_channels * spec.out_channels // spec.groups
        return weights * math.prod(self.output_size(spec)), weights + spec.out_channels
