"""Layers with weights: convolutions, normalisations, fully connected layers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from fbexport.graph import Array, Conv, ConvTranspose, Linear, Node, Norm, Pad, Reshape, Shuffle, Value
from fbexport.translate.call import Call, Results, float32, pair
from fbspace.layers import ChannelShuffle


@dataclass(frozen=True, slots=True, eq=False)
class BatchNorm(Node):
    """Batch normalisation in eval mode: x · scale + shift per channel. It exists only until it is folded."""

    scale: Array
    shift: Array


def _identity(call: Call) -> Value:
    return call.input


def _conv_layer(call: Call) -> Value:
    layer: nn.Conv2d = call.layer
    call.image()
    if layer.padding_mode != "zeros":
        raise call.error("only convolutions with zero padding are known")
    bias = None if layer.bias is None else float32(layer.bias)
    return _conv2d(
        call, call.inputs[0], float32(layer.weight), bias, layer.stride, layer.padding, layer.dilation, layer.groups
    )


def _conv2d(
    call: Call, x: Value, weight: Array, bias: Array | None, stride: Any, padding: Any, dilation: Any, groups: int
) -> Value:
    """Add a convolution; what is padded on one side more than on the other is put around beforehand."""
    n, c, h, w = x.shape
    (kh, kw), (sh, sw), (dh, dw) = weight.shape[2:], pair(stride), pair(dilation)
    if c != weight.shape[1] * groups:
        raise call.error(f"it takes {weight.shape[1] * groups} channels, but {c} reach it")
    if padding == "same":
        odd = [size % 2 for size in (dh * (kh - 1), dw * (kw - 1))]
        padding = (dh * (kh - 1) // 2, dw * (kw - 1) // 2)
        if any(odd):
            h, w = h + odd[0], w + odd[1]
            amounts = ((0, 0), (0, 0), (0, odd[0]), (0, odd[1]))
            x = call.add(Pad, [x], (n, c, h, w), amounts=amounts, number=0.0)
    ph, pw = (0, 0) if padding == "valid" else pair(padding)
    height, width = (h + 2 * ph - dh * (kh - 1) - 1) // sh + 1, (w + 2 * pw - dw * (kw - 1) - 1) // sw + 1
    if height < 1 or width < 1:
        spread = f", {dh * (kh - 1) + 1}x{dw * (kw - 1) + 1} with its dilation," if (dh, dw) != (1, 1) else ""
        raise call.error(f"its {kh}x{kw} kernel{spread} is larger than the padded {h}x{w} input")
    return call.add(
        Conv,
        [x],
        (n, len(weight), height, width),
        weight=weight,
        bias=np.zeros(len(weight), np.float32) if bias is None else bias,
        stride=(sh, sw),
        padding=(ph, pw),
        groups=groups,
        dilation=(dh, dw),
    )


def _conv(call: Call) -> Value:
    """Of two dimensions, or of one, which is an image one pixel high."""
    x, weight, bias, stride, padding, dilation, groups = call.bind(
        input=None, weight=None, bias=None, stride=1, padding=0, dilation=1, groups=1
    )
    x, weight, bias = call.value(x), call.weight(weight), call.weight(bias)
    assert weight is not None
    if len(x.shape) != weight.ndim or weight.ndim not in (3, 4):
        raise call.error(f"it needs an input of {weight.ndim} dimensions, not {x.shape}")
    if weight.ndim == 4:
        return _conv2d(call, x, weight, bias, stride, padding, dilation, groups)
    n, c, length = x.shape
    stride, dilation = (1, pair(stride)[1]), (1, pair(dilation)[1])
    padding = padding if isinstance(padding, str) else (0, pair(padding)[1])
    image = call.add(Reshape, [x], (n, c, 1, length))
    made = _conv2d(call, image, weight[:, :, None], bias, stride, padding, dilation, groups)
    return call.add(Reshape, [made], (n, made.shape[1], made.shape[3]))


def _conv_transpose(call: Call) -> Value:
    x, weight, bias, stride, padding, extra, groups, dilation = call.bind(
        input=None, weight=None, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1
    )
    x, weight, bias = call.value(x), call.weight(weight), call.weight(bias)
    shape = call.shape_by(
        F.conv_transpose2d, x, torch.from_numpy(weight), None, stride, padding, extra, groups, dilation
    )
    assert weight is not None
    return call.add(
        ConvTranspose,
        [x],
        shape,
        weight=weight,
        bias=np.zeros(shape[1], np.float32) if bias is None else bias,
        stride=pair(stride),
        padding=pair(padding),
        extra=pair(extra),
        dilation=pair(dilation),
        groups=groups,
    )


def _batch_norm_layer(call: Call) -> Value:
    layer: nn.BatchNorm2d = call.layer
    return _folded_norm(call, call.input, layer.running_mean, layer.running_var, layer.weight, layer.bias, layer.eps)


def _batch_norm(call: Call) -> Value:
    x, mean, variance, weight, bias, training, _, epsilon = call.bind(
        input=None, running_mean=None, running_var=None, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5
    )
    if training:
        raise call.error("it is in training mode, or has no running statistics to fold")
    return _folded_norm(call, call.value(x), mean, variance, weight, bias, epsilon)


def _folded_norm(call: Call, x: Value, mean: Any, variance: Any, weight: Any, bias: Any, epsilon: float) -> Value:
    mean, variance, weight, bias = (call.weight(each) for each in (mean, variance, weight, bias))
    if mean is None or variance is None:
        raise call.error("it has no running statistics to fold")
    if len(x.shape) < 2 or x.shape[1] != len(mean):
        raise call.error(f"it takes {len(mean)} channels, not an input of {x.shape}")
    scale = 1 / np.sqrt(variance.astype(np.float64) + epsilon)
    if weight is not None:
        scale = scale * weight
    shift = -mean * scale
    if bias is not None:
        shift = shift + bias
    return call.add(BatchNorm, [x], x.shape, scale=scale.astype(np.float32), shift=shift.astype(np.float32))


def _linear_layer(call: Call) -> Value:
    layer: nn.Linear = call.layer
    return linear(call, call.input, float32(layer.weight), None if layer.bias is None else float32(layer.bias))


def _linear(call: Call) -> Value:
    x, weight, bias = call.bind(input=None, weight=None, bias=None)
    weight = call.weight(weight)
    assert weight is not None
    return linear(call, call.value(x), weight, call.weight(bias))


def linear(call: Call, x: Value, weight: Array, bias: Array | None) -> Value:
    """Add a fully connected layer."""
    if len(x.shape) < 2 or x.shape[-1] != weight.shape[1]:
        raise call.error(f"it needs an input of N, {weight.shape[1]}, not {x.shape}")
    bias = np.zeros(len(weight), np.float32) if bias is None else bias
    return call.add(Linear, [x], (*x.shape[:-1], len(weight)), weight=weight, bias=bias)


def _shuffle(call: Call) -> Value:
    n, c, h, w = call.image()
    return call.add(Shuffle, call.inputs, (n, c, h, w), groups=call.layer.groups)


def _layer_norm(call: Call) -> Value:
    x, shape, weight, bias, epsilon = call.bind(input=None, normalized_shape=None, weight=None, bias=None, eps=1e-5)
    x = call.value(x)
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    if x.shape[-len(shape) :] != shape:
        raise call.error(f"it normalises {shape}, but {x.shape} reaches it")
    axes = tuple(range(len(x.shape) - len(shape), len(x.shape)))
    own = [None if each is None else _at_rank(call.weight(each), len(x.shape)) for each in (weight, bias)]
    return call.add(Norm, [x], x.shape, axes=axes, epsilon=epsilon, weight=own[0], bias=own[1])


def _group_norm(call: Call) -> Value:
    x, groups, weight, bias, epsilon = call.bind(input=None, num_groups=None, weight=None, bias=None, eps=1e-5)
    return _grouped(call, call.value(x), groups, weight, bias, epsilon)


def _instance_norm(call: Call) -> Value:
    x, mean, _, weight, bias, own, _, epsilon = call.bind(
        input=None, running_mean=None, running_var=None, weight=None, bias=None, use_input_stats=True, momentum=0.1,
        eps=1e-5,
    )  # fmt: skip
    if mean is not None and not own:
        raise call.error("running statistics are only known of batch normalisation")
    x = call.value(x)
    return _grouped(call, x, x.shape[1], weight, bias, epsilon)


def _grouped(call: Call, x: Value, groups: int, weight: Any, bias: Any, epsilon: float) -> Value:
    """Add a normalisation over the pixels and channels of each group."""
    n, c, *size = x.shape
    if c % groups:
        raise call.error(f"{c} channels do not make {groups} groups")
    whole = tuple(range(1, len(x.shape)))
    single = {1: whole, c: whole[1:]}.get(groups)
    parts = [None if each is None else _per_channel(call.weight(each), len(x.shape)) for each in (weight, bias)]
    if single is not None:
        return call.add(Norm, [x], x.shape, axes=single, epsilon=epsilon, weight=parts[0], bias=parts[1])
    split = (n, groups, c // groups, *size)
    axes = tuple(range(2, len(split)))
    inner = [None if each is None else each.reshape(1, groups, c // groups, *[1] * len(size)) for each in parts]
    apart = call.add(Reshape, [x], split)
    normed = call.add(Norm, [apart], split, axes=axes, epsilon=epsilon, weight=inner[0], bias=inner[1])
    return call.add(Reshape, [normed], x.shape)


def _at_rank(array: Array | None, rank: int) -> Array:
    assert array is not None
    return array.reshape([1] * (rank - array.ndim) + list(array.shape))


def _per_channel(array: Array | None, rank: int) -> Array:
    assert array is not None
    return array.reshape([1, -1] + [1] * (rank - 2))


def _dropout(call: Call) -> Value:
    x, _, training, _ = call.bind(input=None, p=0.5, training=True, inplace=False)
    if training:
        raise call.error("it is in training mode")
    return call.value(x)


LAYERS: dict[type[nn.Module], Callable[[Call], Results]] = {
    nn.Conv2d: _conv_layer,
    nn.BatchNorm1d: _batch_norm_layer,
    nn.BatchNorm2d: _batch_norm_layer,
    nn.Linear: _linear_layer,
    nn.Identity: _identity,
    nn.Dropout: _identity,
    nn.Dropout2d: _identity,
    ChannelShuffle: _shuffle,
}
FUNCTIONS: Mapping[object, Callable[[Call], Results]] = {
    F.conv1d: _conv,
    F.conv2d: _conv,
    F.conv_transpose2d: _conv_transpose,
    F.batch_norm: _batch_norm,
    F.linear: _linear,
    F.layer_norm: _layer_norm,
    F.group_norm: _group_norm,
    F.instance_norm: _instance_norm,
    F.dropout: _dropout,
    F.dropout2d: _dropout,
}
METHODS: Mapping[str, Callable[[Call], Results]] = dict.fromkeys(("contiguous", "clone", "detach", "float"), _identity)
