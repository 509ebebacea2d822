"""Convolutions on a CPU that the library is slow or wrong at, computed another way: the same in value and gradient.

oneDNN computes the weight gradient of a depthwise convolution by a plain loop where the kernel is larger than the map,
as it is in the last stages on small images. That takes hundreds of times as long as the convolution itself
(benchmarks/small_maps.py), more than all else in a step of w. It is summed up tap by tap.

The gradients of a 1x1 convolution with a stride write beyond their memory where fewer than 8 channels come in, channels
last (torch 2.13 with AVX-512: the heap is corrupted). The pixels that the stride leaves out are left out before.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Pair = tuple[int, int]


def use_own_convolutions(module: nn.Module) -> None:
    """Let the convolutions of a module that are concerned compute this way; nothing else of them changes."""
    for conv in module.modules():
        if type(conv) is not nn.Conv2d or conv.padding_mode != "zeros":
            continue
        if 1 < conv.groups == conv.in_channels == conv.out_channels:
            if conv.bias is None and conv.dilation == (1, 1):
                conv.__class__ = DepthwiseConv2d
        elif conv.kernel_size == (1, 1) and conv.stride != (1, 1) and conv.padding == (0, 0):
            conv.__class__ = StridedPointwiseConv2d


class StridedPointwiseConv2d(nn.Conv2d):
    """A 1x1 convolution with a stride."""

    def forward(self, x: Tensor) -> Tensor:
        """Map N, C, H, W to N, C', H/stride, W/stride."""
        if x.device.type != "cpu":
            return super().forward(x)
        return F.conv2d(x[:, :, :: self.stride[0], :: self.stride[1]], self.weight, self.bias, groups=self.groups)


class DepthwiseConv2d(nn.Conv2d):
    """A depthwise convolution without bias."""

    def forward(self, x: Tensor) -> Tensor:
        """Map N, C, H, W to N, C, H/stride, W/stride."""
        larger = self.kernel_size[0] > x.shape[2] or self.kernel_size[1] > x.shape[3]
        learns = torch.is_grad_enabled() and self.weight.requires_grad
        if not (larger and learns) or x.device.type != "cpu" or torch.is_autocast_enabled("cpu"):
            return super().forward(x)
        y: Tensor = _Depthwise.apply(x, self.weight, self.stride, self.padding)  # type: ignore[no-untyped-call]
        return y


class _Depthwise(torch.autograd.Function):
    """y = w * x, with ∂L/∂w[c, i, j] = Σ_{n, h, v} ∂L/∂y[n, c, h, v] · x[n, c, s·h + i − p, s·v + j − p]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, stride: Pair, padding: Pair) -> Tensor:
        ctx.save_for_backward(x, w)
        ctx.stride, ctx.padding = stride, padding
        return F.conv2d(x, w, None, stride, padding, 1, len(w))

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        x, w = ctx.saved_tensors
        gx = gw = None
        if ctx.needs_input_grad[0]:
            gx = torch.ops.aten.convolution_backward(
                g, x, w, None, ctx.stride, ctx.padding, (1, 1), False, (0, 0), len(w), (True, False, False)
            )[0]
        if ctx.needs_input_grad[1]:
            gw = torch.zeros_like(w)
            for i in range(w.shape[2]):
                for j in range(w.shape[3]):
                    rows, x_rows = _overlap(i - ctx.padding[0], ctx.stride[0], g.shape[2], x.shape[2])
                    columns, x_columns = _overlap(j - ctx.padding[1], ctx.stride[1], g.shape[3], x.shape[3])
                    # where a tap sees nothing but padding, both are empty and the sum is zero
                    gw[:, 0, i, j] = (g[:, :, rows, columns] * x[:, :, x_rows, x_columns]).sum((0, 2, 3))
        return gx, gw, None, None


def _overlap(offset: int, stride: int, out: int, size: int) -> tuple[slice, slice]:
    """Return which outputs h have 0 ≤ stride · h + offset < size, and the inputs that they see."""
    first = max(0, -(offset // stride))
    last = min(out - 1, (size - 1 - offset) // stride)
    count = max(0, last - first + 1)
    start = stride * first + offset
    return slice(first, first + count), slice(start, start + stride * count, stride) if count else slice(0, 0)
