"""convnext: the block of ConvNeXt (CVPR'22), whose only normalisation is over the channels of each pixel."""

import math
from dataclasses import dataclass

from fbbase.options import option
from fbspace.blocks import Block, Module, only
from fbspace.opspec import OpSpec


@dataclass(frozen=True)
class ConvNeXt(Block):
    """KxK depthwise → LayerNorm → 1x1 → activation (the paper's is GELU) → 1x1 → layer scale, plus the input.

    Where the shape changes, LayerNorm and a convolution stand before it, as before ConvNeXt's stages: of as many pixels
    as the stride, which do not overlap. Its input is padded where the stride does not divide it.
    """

    expands = True

    layer_scale: bool = option(True, "whether every channel of the branch has a factor, which begins at 1e-6")

    def build(self, spec: OpSpec) -> Module:
        """Build a block. Raises SpecError for what it has not: groups, squeeze-excite."""
        from torch import nn

        from fbspace.layers import ChannelNorm, ConvNeXt

        c, stride = spec.out_channels, spec.stride
        block = ConvNeXt(c, spec.kernel, self._middle(spec), spec.activation, self.layer_scale)
        if stride == 1 and spec.in_channels == c:
            return block
        padding = ((-spec.height % stride + 1) // 2, (-spec.width % stride + 1) // 2)
        reduce = nn.Conv2d(spec.in_channels, c, stride, stride, padding)
        return nn.Sequential(nn.Sequential(ChannelNorm(spec.in_channels), reduce), block)

    def count(self, spec: OpSpec) -> tuple[int, int]:
        """Return what counting the module gives. Raises SpecError as `build` does."""
        c_in, c, middle = spec.in_channels, spec.out_channels, self._middle(spec)
        weights, others = spec.kernel**2 * c + 2 * c * middle, (4 + self.layer_scale) * c + middle
        if spec.stride > 1 or c_in != c:
            weights, others = weights + spec.stride**2 * c_in * c, others + 2 * c_in + c
        return weights * math.prod(self.output_size(spec)), weights + others

    def middle_channels(self, spec: OpSpec) -> int | None:
        """Return out_channels · expansion, rounded down; 4 is the paper's expansion."""
        return max(1, int(spec.out_channels * spec.expansion)) if spec.expansion != 1 else None

    def _middle(self, spec: OpSpec) -> int:
        """Return the width between the 1x1 convolutions. Raises SpecError as `build` does."""
        only(spec, groups=1, squeeze_excite=False)
        return self.middle_channels(spec) or spec.out_channels
