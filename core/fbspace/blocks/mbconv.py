"""mbconv: the inverted residual of MobileNetV2 and V3 and of FBNetV2, whose first 1x1 is dropped at expansion 1."""

import math

from torch import Tensor, nn

from fbspace.errors import SpecError
from fbspace.layers import SqueezeExcite, conv_bn
from fbspace.opspec import OpSpec
from fbspace.widths import middle_channels, squeezed_channels


class MBConv(nn.Module):
    """1x1 conv (expand) → KxK depthwise → squeeze-excite → 1x1 conv (project), plus the input if shapes allow.

    The width in the middle is in_channels · expansion rounded to a multiple of 8. The last 1x1 has no activation.
    """

    def __init__(self, spec: OpSpec) -> None:
        super().__init__()
        middle = middle_channels(spec)
        act = spec.activation
        expands = spec.expansion != 1
        self.expand = conv_bn(spec.in_channels, middle, 1, activation=act) if expands else nn.Identity()
        self.depthwise = conv_bn(middle, middle, spec.kernel, spec.stride, groups=middle, activation=act)
        self.squeeze_excite = SqueezeExcite(middle) if spec.squeeze_excite else nn.Identity()
        self.project = conv_bn(middle, spec.out_channels, 1)
        self.residual = spec.stride == 1 and spec.in_channels == spec.out_channels

    def forward(self, x: Tensor) -> Tensor:
        """Map N, C_in, H, W to N, C_out, H/stride, W/stride."""
        y: Tensor = self.project(self.squeeze_excite(self.depthwise(self.expand(x))))
        return x + y if self.residual else y


def count(spec: OpSpec) -> tuple[int, int]:
    """Return the multiply-accumulates and parameters that counting the module gives, for spaces of 10^5 operators."""
    middle, pixels_in, pixels_out = middle_channels(spec), spec.height * spec.width, math.prod(spec.output_size)
    depthwise, project = spec.kernel**2 * middle, middle * spec.out_channels
    expand = spec.in_channels * middle if spec.expansion != 1 else 0
    squeezed = squeezed_channels(middle) if spec.squeeze_excite else 0
    gates = 2 * middle * squeezed
    biases = squeezed + middle if squeezed else 0
    norms = 2 * (middle * (2 if expand else 1) + spec.out_channels)
    macs = pixels_in * expand + pixels_out * (depthwise + project) + gates
    return macs, expand + depthwise + project + gates + biases + norms


def build(spec: OpSpec) -> nn.Module:
    """Build an inverted residual. Raises SpecError for groups, which it does not have."""
    if spec.groups != 1:
        raise SpecError(f"kind 'mbconv' has no grouped 1x1 convolutions, but groups={spec.groups}; use kind 'ir'")
    return MBConv(spec)
