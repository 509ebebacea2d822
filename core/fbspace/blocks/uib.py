"""uib: the universal inverted bottleneck of MobileNetV4 (ECCV'24): either depthwise may be missing."""

import math
from collections import OrderedDict
from dataclasses import dataclass

from fbbase.options import option
from fbspace.blocks import Block, Module, only
from fbspace.blocks.ir import Ir
from fbspace.errors import SpecError
from fbspace.opspec import OpSpec


@dataclass(frozen=True)
class Uib(Ir):
    """Depthwise without activation → 1x1 → depthwise → 1x1. `kernel` is of the second depthwise; at 1 there is none.

    The stride is the second depthwise's, or the first one's where there is no second. The middle is a multiple of 8.
    """

    start_kernel: int = option(
        1, "kernel of the depthwise convolution before the first 1x1; 1: there is none", least=1, most=255
    )

    def build(self, spec: OpSpec) -> Module:
        """Build the block. Raises SpecError for groups, an even kernel, or a stride with no depthwise convolution."""
        from fbspace.layers import Residual, conv_bn

        middle, act, c = self._middle(spec), spec.activation, spec.in_channels
        layers: OrderedDict[str, Module] = OrderedDict()
        if self.start_kernel > 1:
            stride = 1 if spec.kernel > 1 else spec.stride
            layers["start"] = conv_bn(c, c, self.start_kernel, stride, groups=c)
        layers["expand"] = conv_bn(c, middle, 1, activation=act)
        if spec.kernel > 1:
            layers["depthwise"] = conv_bn(middle, middle, spec.kernel, spec.stride, groups=middle, activation=act)
        if gate := self._gate(spec, middle):
            layers["squeeze_excite"] = gate
        layers["project"] = conv_bn(middle, spec.out_channels, 1)
        return Residual(spec, layers)

    middle_channels = Block.middle_channels  # rounded to a multiple of 8

    def count(self, spec: OpSpec) -> tuple[int, int]:
        """Return what counting the module gives. Raises SpecError as `build` does."""
        middle, c, pixels_out = self._middle(spec), spec.in_channels, math.prod(self.output_size(spec))
        start = self.start_kernel**2 * c if self.start_kernel > 1 else 0
        depthwise = spec.kernel**2 * middle if spec.kernel > 1 else 0
        before, after = start + c * middle, depthwise + middle * spec.out_channels
        gates, gate_parameters = self._count_gate(spec, middle)
        norms = 2 * (bool(start) * c + (1 + bool(depthwise)) * middle + spec.out_channels)
        pixels = spec.height * spec.width if depthwise else pixels_out
        return pixels * before + pixels_out * after + gates, before + after + gate_parameters + norms

    def _middle(self, spec: OpSpec) -> int:
        if self.start_kernel % 2 == 0:
            raise SpecError(f"start_kernel must be odd, not {self.start_kernel}, in {spec.key()}")
        only(spec, groups=1)
        if spec.stride > 1 and max(self.start_kernel, spec.kernel) == 1:
            raise SpecError(
                f"{spec.key()} has no depthwise convolution to take the stride: give kernel or start_kernel"
            )
        return super()._middle(spec)
