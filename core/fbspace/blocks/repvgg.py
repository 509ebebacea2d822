"""repvgg: convolution with a bias → activation: RepVGG and MobileOne, their branches folded."""

import math
from dataclasses import dataclass

from fbbase.options import option
from fbspace.blocks import Block, Module, only
from fbspace.errors import SpecError
from fbspace.opspec import OpSpec


@dataclass(frozen=True)
class RepVgg(Block):
    """The folded form, without batch normalisation."""

    depthwise: bool = option(False, "whether every channel is filtered by itself, as in every other layer of MobileOne")

    def build(self, spec: OpSpec) -> Module:
        """Build a convolution and its activation. Raises SpecError for what it has not, and where groups do not fit."""
        from torch import nn

        from fbspace.layers import ACTIVATION_LAYERS

        c, out, kernel, groups = spec.in_channels, spec.out_channels, spec.kernel, self._groups(spec)
        convolution = nn.Conv2d(c, out, kernel, spec.stride, kernel // 2, groups=groups)
        return nn.Sequential(convolution, ACTIVATION_LAYERS[spec.activation]())

    def count(self, spec: OpSpec) -> tuple[int, int]:
        """Return what counting the module gives. Raises SpecError as `build` does."""
        weights = spec.kernel**2 * spec.in_channels * spec.out_channels // self._groups(spec)
        return weights * math.prod(self.output_size(spec)), weights + spec.out_channels

    def _groups(self, spec: OpSpec) -> int:
        only(spec, expansion=1, squeeze_excite=False)
        if not self.depthwise:
            return spec.groups
        only(spec, groups=1)
        if spec.out_channels % spec.in_channels:
            raise SpecError(f"depthwise, {spec.key()} must go out with a multiple of the channels that come in")
        return spec.in_channels
