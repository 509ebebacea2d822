"""The layers that blocks are made of."""

from collections import OrderedDict

import torch
from torch import Tensor, nn

from fbspace.opspec import OpSpec
from fbspace.widths import squeezed_channels

ACTIVATION_LAYERS: dict[str, type[nn.Module]] = {
    "none": nn.Identity,
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "hswish": nn.Hardswish,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
}


def conv_bn(
    in_channels: int,
    out_channels: int,
    kernel: int,
    stride: int = 1,
    groups: int = 1,
    activation: str = "none",
    padding: int = -1,
) -> nn.Sequential:
    """Return convolution → batch normalisation → activation, padded by half the kernel where `padding` is -1."""
    padding = kernel // 2 if padding == -1 else padding
    layers: list[nn.Module] = [
        nn.Conv2d(in_channels, out_channels, kernel, stride, padding, groups=groups, bias=False),
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
    """Scale channels by a gate computed from their means (MobileNetV3): x · hsigmoid(W₂ act(W₁ mean(x)))."""

    def __init__(self, channels: int, activation: str = "relu", squeezed: int | None = None) -> None:
        super().__init__()
        squeezed = squeezed or squeezed_channels(channels)
        self.reduce = nn.Conv2d(channels, squeezed, 1)
        self.activation = ACTIVATION_LAYERS[activation]()
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


class ChannelAttention(nn.Module):
    """Scale channels by a gate computed from the means of a few beside each other (ECA-Net): x · σ(w ∗ mean(x))."""

    def __init__(self, kernel: int) -> None:
        super().__init__()
        self.convolution = nn.Conv1d(1, 1, kernel, padding=kernel // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Gate N, C, H, W by N, C, 1, 1."""
        gate = self.convolution(x.mean((2, 3)).unsqueeze(1)).sigmoid()
        gated: Tensor = x * gate.reshape(x.shape[0], x.shape[1], 1, 1)
        return gated


class InvertedResidual(nn.Module):
    """1x1 conv (expand) → shuffle if grouped → KxK depthwise → squeeze-excite → 1x1 conv (project), plus the input.

    `middle` is the width between the 1x1 convolutions, of which the last has no activation. The input is added if
    shapes allow. The first 1x1 is left away unless it `expands`. `padding` is that of the depthwise convolution.
    """

    def __init__(
        self, spec: OpSpec, middle: int, gate: nn.Module | None, expands: bool = True, padding: int = -1
    ) -> None:
        super().__init__()
        act = spec.activation
        self.expand: nn.Module = nn.Identity()
        if expands:
            self.expand = conv_bn(spec.in_channels, middle, 1, groups=spec.groups, activation=act)
        self.shuffle = ChannelShuffle(spec.groups) if spec.groups > 1 else nn.Identity()
        self.depthwise = conv_bn(
            middle, middle, spec.kernel, spec.stride, groups=middle, activation=act, padding=padding
        )
        self.squeeze_excite = gate or nn.Identity()
        self.project = conv_bn(middle, spec.out_channels, 1, groups=spec.groups)
        self.residual = spec.stride == 1 and spec.in_channels == spec.out_channels

    def forward(self, x: Tensor) -> Tensor:
        """Map N, C_in, H, W to N, C_out, H/stride, W/stride."""
        y: Tensor = self.shuffle(self.expand(x))
        y = self.project(self.squeeze_excite(self.depthwise(y)))
        return x + y if self.residual else y


class Residual(nn.Sequential):
    """Layers one after another, plus the input where shapes allow: N, C_in, H, W → N, C_out, H/stride, W/stride."""

    def __init__(self, spec: OpSpec, layers: "OrderedDict[str, nn.Module]") -> None:
        super().__init__(layers)
        self.residual = spec.stride == 1 and spec.in_channels == spec.out_channels

    def forward(self, x: Tensor) -> Tensor:
        """Run the layers, and add the input."""
        y = x
        for layer in self:
            y = layer(y)
        return x + y if self.residual else y


class Mean(nn.Module):
    """Global average pool: N, C, H, W → N, C, 1, 1 if dimensions are kept, else N, C."""

    def __init__(self, keeps_dimensions: bool) -> None:
        super().__init__()
        self.keeps_dimensions = keeps_dimensions

    def forward(self, x: Tensor) -> Tensor:
        """Average over the pixels."""
        return x.mean((2, 3), keepdim=self.keeps_dimensions)


class Add(nn.Module):
    """The sum of what two modules make of the same input."""

    def __init__(self, branch: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.branch, self.shortcut = branch, shortcut

    def forward(self, x: Tensor) -> Tensor:
        """Run both."""
        y: Tensor = self.branch(x) + self.shortcut(x)
        return y


class Concat(nn.Module):
    """What two modules make of the same input, the channels of the second behind those of the first."""

    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.first, self.second = first, second

    def forward(self, x: Tensor) -> Tensor:
        """Run both."""
        return torch.cat([self.first(x), self.second(x)], 1)


class Channels(nn.Module):
    """The channels from `first` to before `end`."""

    def __init__(self, first: int, end: int) -> None:
        super().__init__()
        self.first, self.end = first, end

    def forward(self, x: Tensor) -> Tensor:
        """Take them from N, C, H, W."""
        return x[:, self.first : self.end]


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of every pixel of N, C, H, W."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ConvNeXt(nn.Module):
    """x + γ ∘ W₂ act(W₁ norm(depthwise(x))) (ConvNeXt): N, C, H, W → N, C, H, W."""

    def __init__(self, channels: int, kernel: int, middle: int, activation: str, layer_scale: bool) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((channels,), 1e-6)) if layer_scale else None
        self.depthwise = nn.Conv2d(channels, channels, kernel, padding=kernel // 2, groups=channels)
        self.norm = ChannelNorm(channels)
        self.expand = nn.Conv2d(channels, middle, 1)
        self.activation = ACTIVATION_LAYERS[activation]()
        self.project = nn.Conv2d(middle, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Run the branch, and add the input."""
        y: Tensor = self.project(self.activation(self.expand(self.norm(self.depthwise(x)))))
        return x + (y if self.gamma is None else self.gamma.reshape(-1, 1, 1) * y)
