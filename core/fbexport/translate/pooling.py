"""What is computed of several pixels: pooling, means and sums over axes, another size."""

from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from fbexport.graph import MatMul, Mean, Pool, Reduce, Resize, Value
from fbexport.translate.call import Call, Results, pair
from fbexport.translate.elementwise import activation, binary
from fbexport.translate.moves import pad, permute

PoolOperation = Literal["max", "average"]


def _max_pool(call: Call) -> Value:
    call.image()
    x, kernel, stride, padding, dilation, ceil, indices = call.bind(
        input=None, kernel_size=None, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False
    )
    if indices:
        raise call.error("its indices are not known")
    stride = stride or kernel  # None, or nothing at all
    shape = call.shape_by(torch.max_pool2d, x, kernel, stride, padding, dilation, ceil)
    return _pool(call, x, "max", shape, pair(kernel), pair(stride), pair(padding), pair(dilation))


def _average_pool(call: Call) -> Value:
    """Pad beforehand where zeros count."""
    call.image()
    x, kernel, stride, padding, ceil, counts, divisor = call.bind(
        input=None, kernel_size=None, stride=None, padding=0, ceil_mode=False, count_include_pad=True,
        divisor_override=None,
    )  # fmt: skip
    if divisor is not None:
        raise call.error("another divisor than the number of pixels is not known")
    stride = stride or kernel
    shape = call.shape_by(F.avg_pool2d, x, kernel, stride, padding, ceil)
    (ph, pw), (kernel, stride) = pair(padding), (pair(kernel), pair(stride))
    if counts and (ph or pw):
        x, ph, pw = pad(call, x, [(0, 0), (0, 0), (ph, ph), (pw, pw)]), 0, 0
    return _pool(call, x, "average", shape, kernel, stride, (ph, pw))


def _pool(
    call: Call,
    x: Value,
    operation: PoolOperation,
    shape: tuple[int, ...],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int] = (1, 1),
) -> Value:
    """Add pooling, padded at the end up to the last window."""
    ends = [
        max((shape[2 + i] - 1) * stride[i] + dilation[i] * (kernel[i] - 1) + 1 - x.shape[2 + i] - padding[i], 0)
        for i in (0, 1)
    ]
    around = (*padding, ends[0], ends[1])
    return call.add(
        Pool, [x], shape, operation=operation, kernel=kernel, stride=stride, padding=around, dilation=dilation
    )


def _adaptive_layer(call: Call) -> Value:
    return _adaptive(call, call.layer.output_size, "average")


def _adaptive_average(call: Call) -> Value:
    return _adaptive(call, call.bind(input=None, output_size=None)[1], "average")


def _adaptive_max(call: Call) -> Value:
    return _adaptive(call, call.bind(input=None, output_size=None, return_indices=False)[1], "max")


def _adaptive(call: Call, asked: Any, operation: PoolOperation) -> Value:
    """Add pooling to so many pixels: of equal windows where they divide the image, else by a matrix for each axis."""
    n, c, h, w = call.image()
    x = call.inputs[0]
    sizes = asked if isinstance(asked, tuple | list) else (asked, asked)
    height, width = (size if size is not None else own for size, own in zip(sizes, (h, w), strict=True))
    if (height, width) == (h, w):
        return x
    if (height, width) == (1, 1):
        if operation == "average":
            return call.add(Mean, [x], (n, c, 1, 1), keep_dims=True)
        return call.add(Reduce, [x], (n, c, 1, 1), operation="max", axes=(2, 3), keep_dims=True)
    if h % height == 0 and w % width == 0:
        kernel = (h // height, w // width)
        return _pool(call, x, operation, (n, c, height, width), kernel, kernel, (0, 0))
    if operation == "max":
        raise call.error(f"{h}x{w} pixels do not divide into {height}x{width}")
    across = call.constant(_means(w, width)[None, None])
    rows = call.add(MatMul, [x, across], (n, c, h, width))
    down = call.constant(_means(h, height)[None, None])
    turned = permute(call, rows, (0, 1, 3, 2))
    return permute(call, call.add(MatMul, [turned, down], (n, c, width, height)), (0, 1, 3, 2))


def _means(size: int, parts: int) -> Any:
    """Return the matrix that takes the mean of each of some parts of an axis."""
    matrix = np.zeros((size, parts), np.float32)
    for part in range(parts):
        start, stop = part * size // parts, -(-(part + 1) * size // parts)
        matrix[start:stop, part] = 1 / (stop - start)
    return matrix


def _reduce(operation: Literal["mean", "sum", "max"]) -> Callable[[Call], Value]:
    def build(call: Call) -> Value:
        x, dim, keep, _ = call.bind(input=None, dim=None, keepdim=False, dtype=None)
        x = call.value(x)
        return reduced(call, x, operation, dim, keep)

    return build


def reduced(call: Call, x: Value, operation: Literal["mean", "sum", "max"], dim: Any, keep: bool) -> Value:
    """Add a mean, a sum or the largest over some axes."""
    dims = range(len(x.shape)) if dim is None or dim == () else dim if isinstance(dim, tuple | list) else [dim]
    axes = tuple(sorted(axis % len(x.shape) for axis in dims))
    shape = [1 if axis in axes else size for axis, size in enumerate(x.shape)]
    if not keep:
        shape = [size for axis, size in enumerate(shape) if axis not in axes]
    if operation == "mean" and axes == (2, 3) and len(x.shape) == 4:
        return call.add(Mean, [x], shape, keep_dims=bool(keep))
    return call.add(Reduce, [x], shape, operation=operation, axes=axes, keep_dims=bool(keep))


def _norm(call: Call) -> Value:
    x, p, dim, keep = call.bind(input=None, p=2, dim=None, keepdim=False)
    x = call.value(x)
    if p not in (2, "fro"):
        raise call.error("only the norm of squares is known")
    return activation(call, reduced(call, binary(call, x, x, "mul"), "sum", dim, keep), "sqrt")


def _normalize(call: Call) -> Value:
    x, p, dim, epsilon, _ = call.bind(input=None, p=2.0, dim=1, eps=1e-12, out=None)
    x = call.value(x)
    if p != 2:
        raise call.error("only the norm of squares is known")
    length = activation(call, reduced(call, binary(call, x, x, "mul"), "sum", dim, True), "sqrt")
    return binary(call, x, activation(call, length, "clamp", epsilon, np.inf), "div")


def _interpolate(call: Call) -> Value:
    call.image()
    x, size, scale, mode, align, recompute, antialias = call.bind(
        input=None, size=None, scale_factor=None, mode="nearest", align_corners=None, recompute_scale_factor=None,
        antialias=False,
    )  # fmt: skip
    if mode not in ("nearest", "bilinear") or antialias:
        raise call.error(f"only nearest and bilinear interpolation are known, not {mode!r}")
    shape = call.shape_by(F.interpolate, x, size=size, scale_factor=scale, mode=mode, align_corners=align)
    if scale is not None and not recompute and not align:
        factors = scale if isinstance(scale, tuple | list) else (scale, scale)
        if any(
            abs(own * factor - new) > 1e-6 for own, factor, new in zip(x.shape[2:], factors, shape[2:], strict=True)
        ):
            raise call.error(f"{factors} times {x.shape[2:]} is no whole number of pixels: give the size instead")
    if shape == x.shape:
        return call.value(x)
    return call.add(Resize, [x], shape, mode=mode, align_corners=bool(align))


LAYERS: dict[type[nn.Module], Callable[[Call], Results]] = {nn.AdaptiveAvgPool2d: _adaptive_layer}
FUNCTIONS: Mapping[object, Callable[[Call], Results]] = {
    torch.max_pool2d: _max_pool,
    F.max_pool2d: _max_pool,
    F.avg_pool2d: _average_pool,
    F.adaptive_avg_pool2d: _adaptive_average,
    F.adaptive_max_pool2d: _adaptive_max,
    F.interpolate: _interpolate,
    F.normalize: _normalize,
    torch.mean: _reduce("mean"),
    torch.sum: _reduce("sum"),
    torch.amax: _reduce("max"),
    torch.norm: _norm,
}
METHODS: Mapping[str, Callable[[Call], Results]] = {
    "mean": _reduce("mean"),
    "sum": _reduce("sum"),
    "amax": _reduce("max"),
    "norm": _norm,
}
