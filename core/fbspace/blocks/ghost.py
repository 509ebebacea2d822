"""ghost: the bottleneck of GhostNet (CVPR'20): 1x1 convolutions make half the channels, cheap ones the others."""

import math
from collections import OrderedDict
from dataclasses import dataclass

from fbbase.options import option
from fbspace.blocks import Block, Module, only
from fbspace.errors import SpecError
from fbspace.opspec import OpSpec
from fbspace.widths import round_channels


@dataclass(frozen=True)
class Ghost(Block):
    """Ghost module → depthwise with the stride, if any → squeeze-excite → ghost module, plus a shortcut.

    Where the shape changes the shortcut is KxK depthwise → 1x1; so `kernel` means nothing where it is kept. Widths in
    the middle are rounded to multiples of 4, as in the paper.
    """

    expands = True

    ratio: int = option(2, "channels of a ghost module to each that its 1x1 convolution makes", least=2, most=16)
    cheap_kernel: int = option(3, "kernel of the depthwise convolutions that make the others, odd", least=1, most=31)

    def build(self, spec: OpSpec) -> Module:
        """Build a ghost bottleneck. Raises SpecError for an even cheap_kernel, and for groups, which it has not."""
        from torch import nn

        from fbspace.layers import Add, SqueezeExcite, conv_bn

        c, middle, out = spec.in_channels, self._middle(spec), spec.out_channels
        branch = OrderedDict(expand=self._ghosts(c, middle, spec.activation))
        if spec.stride > 1:
            branch["depthwise"] = conv_bn(middle, middle, spec.kernel, spec.stride, groups=middle)
        if spec.squeeze_excite:
            branch["squeeze_excite"] = SqueezeExcite(middle, "relu", round_channels(middle / 4, 4))
        branch["project"] = self._ghosts(middle, out, "none")
        shortcut = nn.Sequential()
        if spec.stride > 1 or c != out:
            shortcut = nn.Sequential(conv_bn(c, c, spec.kernel, spec.stride, groups=c), conv_bn(c, out, 1))
        return Add(nn.Sequential(branch), shortcut)

    def _ghosts(self, c_in: int, c_out: int, activation: str) -> Module:
        """Return a ghost module: a 1x1 convolution, and beside what it makes what is cheaply made of that."""
        from torch import nn

        from fbspace.layers import Channels, Concat, conv_bn

        first = math.ceil(c_out / self.ratio)
        cheap = conv_bn(first, first * (self.ratio - 1), self.cheap_kernel, groups=first, activation=activation)
        made = nn.Sequential(conv_bn(c_in, first, 1, activation=activation), Concat(nn.Identity(), cheap))
        return made if first * self.ratio == c_out else made.append(Channels(0, c_out))

    def count(self, spec: OpSpec) -> tuple[int, int]:
        """Return what counting the module gives. Raises SpecError as `build` does."""
        c, middle, out = spec.in_channels, self._middle(spec), spec.out_channels
        pixels_in, pixels_out = spec.height * spec.width, math.prod(self.output_size(spec))
        (expand, norms), (project, norms_after) = self._weights(c, middle), self._weights(middle, out)
        norms += norms_after
        if spec.stride > 1:
            project, norms = project + spec.kernel**2 * middle, norms + 2 * middle
        if spec.stride > 1 or c != out:
            project, norms = project + spec.kernel**2 * c + c * out, norms + 2 * (c + out)
        squeezed = round_channels(middle / 4, 4) if spec.squeeze_excite else 0
        gate = 2 * middle * squeezed
        biases = squeezed + middle if squeezed else 0
        return pixels_in * expand + pixels_out * project + gate, expand + project + gate + biases + norms

    def _weights(self, c_in: int, c_out: int) -> tuple[int, int]:
        """Return the weights of a ghost module's convolutions, and of their normalisations."""
        first = math.ceil(c_out / self.ratio)
        return c_in * first + self.cheap_kernel**2 * first * (self.ratio - 1), 2 * first * self.ratio

    def middle_channels(self, spec: OpSpec) -> int | None:
        """Return in_channels · expansion, to a multiple of 4."""
        return round_channels(spec.in_channels * spec.expansion, 4) if spec.expansion != 1 else None

    def _middle(self, spec: OpSpec) -> int:
        """Return the width between the ghost modules. Raises SpecError as `build` does."""
        only(spec, groups=1)
        if self.cheap_kernel % 2 == 0:
            raise SpecError(f"cheap_kernel must be odd, not {self.cheap_kernel}, in {spec.key()}")
        return self.middle_channels(spec) or spec.in_channels
