"""ir: the inverted residual that every FBNet candidate is made of (FBNet, CVPR'19, figure 3)."""

from torch import Tensor, nn

from fbspace.layers import ChannelShuffle, SqueezeExcite, conv_bn
from fbspace.opspec import OpSpec


class InvertedResidual(nn.Module):
    """1x1 conv (expand) → shuffle if grouped → KxK depthwise → 1x1 conv (project), added to the input if shapes allow.

    The first 1x1 is kept at expansion 1, as in the paper's table. The last one has no activation.
    """

    def __init__(self, spec: OpSpec) -> None:
        super().__init__()
        middle = round(spec.in_channels * spec.expansion)
        act = spec.activation
        self.expand = conv_bn(spec.in_channels, middle, 1, groups=spec.groups, activation=act)
        self.shuffle = ChannelShuffle(spec.groups) if spec.groups > 1 else nn.Identity()
        self.depthwise = conv_bn(middle, middle, spec.kernel, spec.stride, groups=middle, activation=act)
        self.squeeze_excite = SqueezeExcite(middle) if spec.squeeze_excite else nn.Identity()
        self.project = conv_bn(middle, spec.out_channels, 1, groups=spec.groups)
        self.residual = spec.stride == 1 and spec.in_channels == spec.out_channels

    def forward(self, x: Tensor) -> Tensor:
        """Map N, C_in, H, W to N, C_out, H/stride, W/stride."""
        y: Tensor = self.shuffle(self.expand(x))
        y = self.project(self.squeeze_excite(self.depthwise(y)))
        return x + y if self.residual else y


def build(spec: OpSpec) -> nn.Module:
    """Build an inverted residual."""
    return InvertedResidual(spec)
