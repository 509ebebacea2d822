"""fusedmb: the fused MBConv of EfficientNetV2, MobileNetV4 and EfficientNet-EdgeTPU (there: EdgeResidual)."""

import math
from collections import OrderedDict
from dataclasses import dataclass

from fbspace.blocks import Block, Module
from fbspace.blocks.ir import Ir
from fbspace.opspec import OpSpec


@dataclass(frozen=True)
class FusedMb(Ir):
    """KxK convolution that expands, with the stride and the groups → 1x1. The middle is rounded to multiples of 8."""

    def build(self, spec: OpSpec) -> Module:
        """Build the block. Raises SpecError where the groups do not divide its middle."""
        from fbspace.layers import Residual, conv_bn

        middle = self._middle(spec)
        layers: OrderedDict[str, Module] = OrderedDict()
        layers["expand"] = conv_bn(
            spec.in_channels, middle, spec.kernel, spec.stride, spec.groups, activation=spec.activation
        )
        if gate := self._gate(spec, middle):
            layers["squeeze_excite"] = gate
        layers["project"] = conv_bn(middle, spec.out_channels, 1)
        return Residual(spec, layers)

    middle_channels = Block.middle_channels  # rounded to a multiple of 8

    def count(self, spec: OpSpec) -> tuple[int, int]:
        """Return what counting the module gives. Raises SpecError as `build` does."""
        middle = self._middle(spec)
        weights = spec.kernel**2 * spec.in_channels * middle // spec.groups + middle * spec.out_channels
        gates, gate_parameters = self._count_gate(spec, middle)
        norms = 2 * (middle + spec.out_channels)
        return weights * math.prod(self.output_size(spec)) + gates, weights + gate_parameters + norms
