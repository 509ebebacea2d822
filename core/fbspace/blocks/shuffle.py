"""shuffle: the unit of ShuffleNetV2 (ECCV'18): one half of the channels passes, the other is convolved."""

import math

from fbspace.blocks import Block, Module, only
from fbspace.errors import SpecError
from fbspace.opspec import OpSpec


class Shuffle(Block):
    """Split → 1x1, KxK depthwise, 1x1 of the second half → concatenate → shuffle.

    Where the shape changes nothing is split: the first half of the output is KxK depthwise → 1x1 of the whole input,
    the second 1x1 → depthwise → 1x1, as in the paper's strided unit.
    """

    def build(self, spec: OpSpec) -> Module:
        """Build a unit. Raises SpecError for odd widths, and for what it has not: groups, expansion, squeeze-excite."""
        from torch import nn

        from fbspace.layers import Channels, ChannelShuffle, Concat, conv_bn

        half, splits = self._half(spec)
        c, act = half if splits else spec.in_channels, spec.activation
        first: nn.Module = Channels(0, half)
        if not splits:
            first = nn.Sequential(
                conv_bn(c, c, spec.kernel, spec.stride, groups=c), conv_bn(c, half, 1, activation=act)
            )
        second = nn.Sequential(
            *([Channels(half, 2 * half)] if splits else []),
            conv_bn(c, half, 1, activation=act),
            conv_bn(half, half, spec.kernel, spec.stride, groups=half),
            conv_bn(half, half, 1, activation=act),
        )
        return nn.Sequential(Concat(first, second), ChannelShuffle(2))

    def count(self, spec: OpSpec) -> tuple[int, int]:
        """Return what counting the module gives. Raises SpecError as `build` does."""
        half, splits = self._half(spec)
        c = half if splits else spec.in_channels
        before, after = c * half, spec.kernel**2 * half + half * half
        first = 0 if splits else spec.kernel**2 * c + c * half
        norms = 2 * 3 * half + (0 if splits else 2 * (c + half))
        pixels_in, pixels_out = spec.height * spec.width, math.prod(self.output_size(spec))
        return pixels_in * before + pixels_out * (after + first), before + after + first + norms

    def _half(self, spec: OpSpec) -> tuple[int, bool]:
        """Return half the width, and whether the input is split. Raises SpecError as `build` does."""
        only(spec, groups=1, expansion=1, squeeze_excite=False)
        if spec.out_channels % 2:
            raise SpecError(f"out_channels must be even in a 'shuffle' operator, not {spec.out_channels}")
        return spec.out_channels // 2, spec.stride == 1 and spec.in_channels == spec.out_channels
