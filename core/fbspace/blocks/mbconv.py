"""mbconv: the inverted residual of MobileNetV2 and V3 and of FBNetV2, whose first 1x1 is dropped at expansion 1."""

import math
from dataclasses import dataclass

from fbspace.blocks import Block, Module
from fbspace.blocks.ir import Ir
from fbspace.opspec import OpSpec
from fbspace.widths import squeezed_channels


@dataclass(frozen=True)
class MbConv(Ir):
    """Inverted residual; the width in the middle is rounded to a multiple of 8."""

    def build(self, spec: OpSpec) -> Module:
        """Build an inverted residual. Raises SpecError where the groups do not divide its middle."""
        return self._inverted_residual(spec, expands=spec.expansion != 1)

    middle_channels = Block.middle_channels  # rounded to a multiple of 8

    def count(self, spec: OpSpec) -> tuple[int, int]:
        """Return what counting the module gives, for spaces of 10^5 operators."""
        pixels_in, pixels_out = spec.height * spec.width, math.prod(self.output_size(spec))
        middle = self.middle_channels(spec) or spec.in_channels
        depthwise, project = spec.kernel**2 * middle, middle * spec.out_channels // spec.groups
        expand = spec.in_channels * middle // spec.groups if spec.expansion != 1 else 0
        squeezed = squeezed_channels(middle) if spec.squeeze_excite else 0
        gates = 2 * middle * squeezed
        biases = squeezed + middle if squeezed else 0
        norms = 2 * (middle * (2 if expand else 1) + spec.out_channels)
        macs = pixels_in * expand + pixels_out * (depthwise + project) + gates
        return macs, expand + depthwise + project + gates + biases + norms
