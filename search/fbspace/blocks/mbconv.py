"""mbconv: the inverted residual of MobileNetV2 and V3 and of FBNetV2, whose first 1x1 is dropped at expansion 1."""

from torch import Tensor, nn

from fbspace.errors import SpecError
from fbspace.layers import SqueezeExcite, conv_bn, round_channels
from fbspace.opspec import OpSpec


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


def middle_channels(spec: OpSpec) -> int:
    """Return the width between the two 1x1 convolutions."""
    return spec.in_channels if spec.expansion == 1 else round_channels(spec.in_channels * spec.expansion)


def build(spec: OpSpec) -> nn.Module:
    """Build an inverted residual. Raises SpecError for groups, which it does not have."""
    if spec.groups != 1:
        raise SpecError(f"kind 'mbconv' has no grouped 1x1 convolutions, but groups={spec.groups}; use kind 'ir'")
    return MBConv(spec)
