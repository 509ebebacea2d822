"""Samples of every operator that the tracer knows, each a small module; the table in docs/extend/operators.md has them.

A sample is drawn for an input of 2, 8, 6, 6 (N, C, H, W).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SHAPE = (2, 8, 6, 6)


class Computed(nn.Module):
    """A function of x with layers and parameters of its own."""

    def __init__(self, function: Callable[["Computed", Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function
        self.scale = nn.Parameter(torch.linspace(-1, 1, 8).reshape(8, 1, 1))
        self.matrix = nn.Parameter(torch.linspace(-1, 1, 36).reshape(6, 6))
        self.conv = nn.Conv2d(8, 8, 3, padding=1)
        self.linear = nn.Linear(8, 24)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


@dataclass(frozen=True)
class Sample:
    """An operator's name as the table has it, and a module that has it."""

    operator: str
    make: Callable[[], nn.Module]


def sample(operator: str, make: Callable[[], nn.Module]) -> Sample:
    return Sample(operator, make)


def computed(operator: str, function: Callable[[Computed, Tensor], Tensor]) -> Sample:
    return Sample(operator, lambda: Computed(function))


def attention(m: Computed, x: Tensor, **options: object) -> Tensor:
    n, c, h, w = x.shape
    qkv = m.linear(x.flatten(2).transpose(1, 2)).reshape(n, h * w, 3, 2, 4).permute(2, 0, 3, 1, 4)
    q, k, v = qkv.unbind(0)
    return F.scaled_dot_product_attention(q, k, v, **options).transpose(1, 2).reshape(n, h * w, c)


class LayerNorm2d(nn.LayerNorm):
    def forward(self, x: Tensor) -> Tensor:
        x = F.layer_norm(x.permute(0, 2, 3, 1), self.normalized_shape, self.weight, self.bias, self.eps)
        return x.permute(0, 3, 1, 2)


SAMPLES = [
    sample("convolution, k×1 kernel", lambda: nn.Conv2d(8, 4, (3, 1), (2, 1), (1, 0))),
    sample('convolution, "same" padding', lambda: nn.Conv2d(8, 4, 4, padding="same")),
    sample("convolution, 1-D", lambda: nn.Sequential(nn.Flatten(2), nn.Conv1d(8, 8, 3, 2, 1), nn.BatchNorm1d(8))),
    sample("transposed convolution", lambda: nn.Sequential(nn.ConvTranspose2d(8, 4, 2, 2), nn.BatchNorm2d(4))),
    sample("transposed convolution, padded", lambda: nn.ConvTranspose2d(8, 4, 3, 2, 1, output_padding=1)),
    sample("transposed convolution, groups", lambda: nn.ConvTranspose2d(8, 8, (3, 4), 2, 1, groups=4)),
    sample("transposed convolution, dilation", lambda: nn.ConvTranspose2d(8, 4, 3, 2, dilation=2)),
    sample("fully connected, last axis", lambda: nn.Linear(6, 5)),
    sample("batch normalisation, N, C", lambda: nn.Sequential(nn.Flatten(1), nn.Linear(288, 6), nn.BatchNorm1d(6))),
    sample("layer normalisation", lambda: nn.LayerNorm([8, 6, 6])),
    sample("layer normalisation, last axis", lambda: nn.LayerNorm(6, eps=1e-6)),
    sample("layer normalisation, channels", lambda: LayerNorm2d(8)),
    sample("group normalisation", lambda: nn.GroupNorm(4, 8)),
    sample("group normalisation, one group", lambda: nn.GroupNorm(1, 8)),
    sample("instance normalisation", lambda: nn.InstanceNorm2d(8, affine=True)),
    sample("SiLU", nn.SiLU),
    sample("GELU", nn.GELU),
    sample("GELU, tanh form", lambda: nn.GELU("tanh")),
    sample("ELU", nn.ELU),
    sample("ELU, another alpha", lambda: nn.ELU(0.7)),
    sample("leaky ReLU", lambda: nn.LeakyReLU(0.2)),
    sample("PReLU", nn.PReLU),
    sample("PReLU, per channel", lambda: nn.PReLU(8)),
    sample("softmax", lambda: nn.Softmax(1)),
    sample("softmax, last axis", lambda: nn.Softmax(-1)),
    sample("tanh", nn.Tanh),
    sample("hard sigmoid", nn.Hardsigmoid),
    sample("hard swish", nn.Hardswish),
    sample("clamp", lambda: nn.Hardtanh(-0.3, 0.6)),
    computed("clamp, one bound", lambda _, x: x.clamp(min=0.1) + torch.clamp(x, max=0.2)),
    computed("exp, sqrt, abs", lambda _, x: torch.sqrt(x.abs()) + x.exp()),
    sample("max pooling", lambda: nn.MaxPool2d(3, 2, 1)),
    sample("max pooling, ceil mode", lambda: nn.MaxPool2d(3, 2, ceil_mode=True)),
    sample("max pooling, dilation", lambda: nn.MaxPool2d((2, 3), 1, 1, dilation=2)),
    sample("average pooling", lambda: nn.AvgPool2d(2)),
    sample("average pooling, padding", lambda: nn.AvgPool2d(3, 2, 1)),
    sample("average pooling, padding not counted", lambda: nn.AvgPool2d(3, 2, 1, count_include_pad=False)),
    sample("average pooling, ceil mode", lambda: nn.AvgPool2d((3, 2), 2, ceil_mode=True)),
    sample("adaptive average pooling", lambda: nn.AdaptiveAvgPool2d((3, 2))),
    sample("adaptive average pooling, uneven", lambda: nn.AdaptiveAvgPool2d((4, 5))),
    sample("adaptive max pooling", lambda: nn.AdaptiveMaxPool2d(1)),
    sample("nearest upsampling", lambda: nn.Upsample(scale_factor=2)),
    sample("bilinear upsampling", lambda: nn.Upsample((11, 9), mode="bilinear")),
    sample("bilinear upsampling, corners", lambda: nn.Upsample((12, 12), mode="bilinear", align_corners=True)),
    sample("pixel shuffle", lambda: nn.PixelShuffle(2)),
    sample("pixel unshuffle", lambda: nn.PixelUnshuffle(2)),
    sample("padding", lambda: nn.ZeroPad2d((1, 2, 0, 3))),
    computed("padding with a number, cut", lambda _, x: F.pad(x, (-1, 2, 1, 0, 1, 1), value=0.5)),
    computed("concatenation", lambda _, x: torch.cat([x, x * 2, x], 1)),
    computed("stack", lambda _, x: torch.stack([x, x + 1], -1).mean(-1)),
    computed("split", lambda _, x: torch.cat(torch.split(x, [2, 5, 1], dim=1)[::-1], 1)),
    computed("chunk", lambda _, x: torch.cat([part * at for at, part in enumerate(x.chunk(3, dim=2))], 2)),
    computed("unbind", lambda _, x: sum(x.unbind(1))),
    computed("slices", lambda _, x: x[:, 1:-1, ::2, 1] + x[..., None, -1][:, 2:, ::2, 0]),
    computed("reshape", lambda _, x: x.reshape(2, -1, 4).squeeze().unsqueeze(1)),
    computed("view, flatten", lambda _, x: x.view(2, 2, 4, 6, 6).flatten(1, 2).flatten(2)),
    computed("permutation", lambda m, x: m.conv(m.conv(x).permute(0, 2, 3, 1).relu().permute(0, 3, 1, 2))),
    computed("permutation, five axes", lambda _, x: x.reshape(2, 2, 4, 6, 6).transpose(1, 2).movedim(-1, 1)),
    computed("channel shuffle", lambda m, x: m.conv(m.conv(x).view(2, 4, 2, 6, 6).transpose(1, 2).reshape(2, 8, 6, 6))),
    computed("product of matrices", lambda _, x: x @ x.transpose(-2, -1)),
    computed("product with a parameter", lambda m, x: torch.matmul(m.matrix, x) @ m.matrix),
    computed("attention", attention),
    computed("attention, causal", lambda m, x: attention(m, x, is_causal=True, scale=0.3)),
    computed("attention, mask", lambda m, x: attention(m, x, attn_mask=torch.linspace(-1, 1, 36 * 36).reshape(36, 36))),
    computed("sum, difference, product", lambda m, x: (x - m.conv(x)) * x.mean(1, keepdim=True) + x),
    computed("quotient", lambda _, x: 1 / (x * x + 1) + x / (x.abs() + 2) - (3 - x) / 7),
    computed("broadcast over axes", lambda m, x: x + m.conv(x).mean((0, 2, 3))[:, None, None]),
    computed("parameters in forward", lambda m, x: m.conv(x) * m.scale + m.scale.flatten().sum()),
    computed("powers", lambda m, x: x**2 + torch.rsqrt(x.square() + 1) - torch.addcmul(-x, x, m.scale)),
    computed("largest and least of two", lambda _, x: torch.maximum(x, x.mean(1, keepdim=True)) - torch.minimum(x, -x)),
    computed("mean over axes", lambda m, x: m.conv(x).mean((1, 3))),
    computed("sum over axes", lambda m, x: m.conv(x).sum((-1, 1), keepdim=True) + x.sum(2, keepdim=True)),
    computed("largest over axes", lambda m, x: m.conv(x).amax((2, 3))),
    computed("norm", lambda _, x: F.normalize(x, dim=1) + x.norm(p=2, dim=(2, 3), keepdim=True)),
    computed("expand", lambda _, x: x.mean((2, 3), keepdim=True).expand(-1, -1, 6, 6).flatten(1)),
    computed("expand as", lambda _, x: x * x.mean((2, 3), keepdim=True).sigmoid().expand_as(x)),
]  # fmt: skip
