"""The few layers that blocks are made of."""

from torch import Tensor, nn

from fbspace.widths import squeezed_channels

ACTIVATION_LAYERS: dict[str, type[nn.Module]] = {
    "none": nn.Identity,
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "hswish": nn.Hardswish,
}


def conv_bn(
    in_channels: int,
    out_channels: int,
    kernel: int,
    stride: int = 1,
    groups: int = 1,
    activation: str = "none",
) -> nn.Sequential:
    """Return convolution → batch normalisation → activation, padded so that stride 1 keeps the size."""
    layers: list[nn.Module] = [
        nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(out_channels),
    ]
    if activation != "none":
        layers.append(ACTIVATION_LAYERS[activation]())
    return nn.Sequential(*layers)


class ChannelShuffle(nn.Module):
    """Interleave the channels of `groups` groups (ShuffleNet, CVPR'18): N, g·c, H, W → N, c·g, H, W."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        """Shuffle N, C, H, W."""
        n, c, h, w = x.shape
        return x.reshape(n, self.groups, c // self.groups, h, w).transpose(1, 2).reshape(n, c, h, w)


class SqueezeExcite(nn.Module):
    """Scale channels by a gate computed from their means (MobileNetV3): x · hsigmoid(W₂ relu(W₁ mean(x)))."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = squeezed_channels(channels)
        self.reduce = nn.Conv2d(channels, squeezed, 1)
        self.activation = nn.ReLU()
        self.expand = nn.Conv2d(squeezed, channels, 1)
        self.gate = nn.Hardsigmoid()

    def forward(self, x: Tensor) -> Tensor:
        """Gate N, C, H, W by N, C, 1, 1."""
        return self.excite(x, self.squeeze(x))

    def squeeze(self, x: Tensor) -> Tensor:
        """Return what is computed from the means, N, squeezed, 1, 1."""
        squeezed: Tensor = self.activation(self.reduce(x.mean((2, 3), keepdim=True)))
        return squeezed

    def excite(self, x: Tensor, squeezed: Tensor) -> Tensor:
        """Gate N, C, H, W by what was squeezed."""
        gated: Tensor = x * self.gate(self.expand(squeezed))
        return gated
