"""Translate: one call that torch.fx recorded (a layer, a function, a method) as one operator of the graph.

To teach the exporter an operator, add an entry to `_LAYERS`, `_FUNCTIONS` or `_METHODS`; if it is none of the graph's
kinds, add a kind to graph.py and to each format. Shapes follow from the operators' formulas, nothing is run.
"""

import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from fbexport.errors import ExportError, module_name
from fbexport.graph import Activation, Array, Binary, Conv, Function, Linear, Mean, Node, Shuffle, Value
from fbspace.layers import ChannelShuffle


@dataclass(frozen=True, slots=True, eq=False)
class BatchNorm(Node):
    """Batch normalisation in eval mode: x · scale + shift per channel. It exists only until it is folded."""

    scale: Array
    shift: Array


@dataclass(frozen=True, slots=True)
class Call:
    """One recorded call: what is called, in which module, on which values, with which other arguments."""

    name: str
    operator: str
    source: str
    layer: Any
    inputs: tuple[Value, ...]
    arguments: tuple[Any, ...]
    options: Mapping[str, Any]
    shared: bool
    """Whether another operator reads one of the inputs too."""

    def result(self, *shape: int) -> Value:
        """Return the value this call makes."""
        return Value(self.name, shape)

    def error(self, reason: str) -> ExportError:
        """Return the error that says where this call is and why it has no translation."""
        return ExportError(f"operator {self.operator} of {module_name(self.source)} cannot be exported: {reason}")

    def image(self) -> tuple[int, int, int, int]:
        """Return N, C, H, W of the only input. Raises ExportError for another rank."""
        shape = self.inputs[0].shape
        if len(self.inputs) != 1 or len(shape) != 4:
            raise self.error(f"it needs one input of N, C, H, W, not {[value.shape for value in self.inputs]}")
        n, c, h, w = shape
        return n, c, h, w


def is_known(layer: nn.Module) -> bool:
    """Return whether a layer has a translation of its own."""
    return type(layer) in _LAYERS


def is_chain(layer: nn.Module) -> bool:
    """Return whether a layer only runs known layers one after the other."""
    return type(layer) is nn.Sequential and len(layer) > 0 and all(is_known(part) or is_chain(part) for part in layer)


def record(node: fx.Node, root: nn.Module, values: Mapping[fx.Node, Value], name: str) -> list[Call]:
    """Return a node of torch.fx as calls: one, or those of a chain, of which each takes what the one before made.

    Tensors among the arguments become `inputs`, the rest stays as it is. Raises ExportError for parameters and
    constants that forward uses directly.
    """
    stack = node.meta.get("nn_module_stack") or {}
    source = next(reversed(stack.values()))[0] if stack else ""
    layer = root.get_submodule(str(node.target)) if node.op == "call_module" else None
    target = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
    if node.op == "get_attr":
        raise ExportError(f"{module_name(source)} uses the tensor {target!r} directly in forward; make it a layer")
    call = Call(
        name=name,
        operator=target if layer is None else type(layer).__name__,
        source=source,
        layer=layer,
        inputs=tuple(values[arg] for arg in node.args if isinstance(arg, fx.Node)),
        arguments=tuple(arg for arg in node.args if not isinstance(arg, fx.Node)),
        options=node.kwargs,
        shared=any(len(arg.users) > 1 for arg in node.all_input_nodes),
    )
    return list(_links(call)) if layer is not None and is_chain(layer) else [call]


def _links(call: Call) -> Iterator[Call]:
    """Yield the calls of a chain's layers; only the first can share its input with others."""
    shared = call.shared
    for name, child in call.layer.named_children():
        link = replace(
            call,
            name=f"{call.name}_{name}",
            operator=type(child).__name__,
            source=f"{call.source}.{name}".lstrip("."),
            layer=child,
            shared=shared,
        )
        yield from _links(link) if is_chain(child) else [link]
        shared = False


def translate(call: Call, target: object) -> Node | Value:
    """Return the operator of a call, or the input itself where the call is an identity in eval mode.

    `target` is what torch.fx recorded: a function, or the name of a layer or method. Raises ExportError.
    """
    if call.layer is not None:
        known = _LAYERS.get(type(call.layer))
    else:
        known = _METHODS.get(target) if isinstance(target, str) else _FUNCTIONS.get(target)
    if known is None:
        layers = ", ".join(layer.__name__ for layer in _LAYERS)
        raise call.error(f"it has no translation. Build the block from {layers}, +, * and mean, or add a translation")
    if call.layer is not None and getattr(call.layer, "inplace", False) and call.shared:
        raise call.error("it overwrites a tensor that is used elsewhere too; drop inplace=True")
    return known(call)


def _float32(tensor: Tensor) -> Array:
    array: Array = tensor.detach().to("cpu", torch.float32).numpy()
    return array


def _identity(call: Call) -> Value:
    return call.inputs[0]


def _conv(call: Call) -> Node:
    layer: nn.Conv2d = call.layer
    n, c, h, w = call.image()
    if isinstance(layer.padding, str) or layer.padding_mode != "zeros":
        raise call.error("only convolutions with numeric zero padding are known")
    if c != layer.in_channels:
        raise call.error(f"it takes {layer.in_channels} channels, but {c} reach it")
    (kh, kw), (sh, sw), (ph, pw), (dh, dw) = layer.kernel_size, layer.stride, layer.padding, layer.dilation
    height, width = (h + 2 * ph - dh * (kh - 1) - 1) // sh + 1, (w + 2 * pw - dw * (kw - 1) - 1) // sw + 1
    if height < 1 or width < 1:
        spread = f", {dh * (kh - 1) + 1}x{dw * (kw - 1) + 1} with its dilation," if (dh, dw) != (1, 1) else ""
        raise call.error(f"its {kh}x{kw} kernel{spread} is larger than the padded {h}x{w} input")
    return Conv(
        call.inputs,
        call.result(n, layer.out_channels, height, width),
        call.source,
        weight=_float32(layer.weight),
        bias=np.zeros(layer.out_channels, np.float32) if layer.bias is None else _float32(layer.bias),
        stride=(sh, sw),
        padding=(ph, pw),
        groups=layer.groups,
        dilation=(dh, dw),
    )


def _batch_norm(call: Call) -> Node:
    layer: nn.BatchNorm2d = call.layer
    shape = call.image()
    if layer.running_mean is None or layer.running_var is None:
        raise call.error("it has no running statistics to fold")
    scale = 1 / np.sqrt(_float32(layer.running_var).astype(np.float64) + layer.eps)
    if layer.weight is not None:
        scale = scale * _float32(layer.weight)
    shift = -_float32(layer.running_mean) * scale
    if layer.bias is not None:
        shift = shift + _float32(layer.bias)
    return BatchNorm(
        call.inputs, call.result(*shape), call.source, scale=scale.astype(np.float32), shift=shift.astype(np.float32)
    )


def _linear(call: Call) -> Node:
    layer: nn.Linear = call.layer
    shape = call.inputs[0].shape
    if len(shape) != 2 or shape[1] != layer.in_features:
        raise call.error(f"it needs an input of N, {layer.in_features}, not {shape}")
    bias = np.zeros(layer.out_features, np.float32) if layer.bias is None else _float32(layer.bias)
    output = call.result(shape[0], layer.out_features)
    return Linear(call.inputs, output, call.source, weight=_float32(layer.weight), bias=bias)


def _shuffle(call: Call) -> Node:
    n, c, h, w = call.image()
    return Shuffle(call.inputs, call.result(n, c, h, w), call.source, groups=call.layer.groups)


def _activation(function: Function) -> Callable[[Call], Node]:
    def build(call: Call) -> Node:
        if len(call.inputs) != 1 or call.arguments or any(call.options.values()):
            raise call.error("it needs one tensor and no options")
        return Activation(call.inputs, call.result(*call.inputs[0].shape), call.source, function=function)

    return build


def _binary(operation: Literal["add", "mul"]) -> Callable[[Call], Node]:
    def build(call: Call) -> Node:
        shapes = [value.shape for value in call.inputs]
        if len(shapes) != 2 or call.arguments or call.options:
            raise call.error("it needs two tensors and no options")
        if len(shapes[0]) != len(shapes[1]):  # broadcasting across ranks would mean another axis in NHWC
            raise call.error(f"its inputs must have the same number of dimensions, not {shapes[0]} and {shapes[1]}")
        try:
            shape = np.broadcast_shapes(*shapes)
        except ValueError:
            raise call.error(f"its inputs do not fit: {shapes[0]} and {shapes[1]}") from None
        return Binary(call.inputs, call.result(*shape), call.source, operation=operation)

    return build


def _mean(call: Call) -> Node:
    n, c, _, _ = call.image()
    given = dict(zip(("dim", "keepdim"), call.arguments, strict=False)) | dict(call.options)
    axes, keep = given.pop("dim", None), bool(given.pop("keepdim", False))
    if given or not isinstance(axes, tuple | list) or sorted(axis % 4 for axis in axes) != [2, 3]:
        raise call.error("only the mean over height and width is known: x.mean((2, 3))")
    return Mean(call.inputs, call.result(n, c, 1, 1) if keep else call.result(n, c), call.source, keep_dims=keep)


def _global_pool(call: Call) -> Node:
    n, c, _, _ = call.image()
    if call.layer.output_size not in (1, (1, 1)):
        raise call.error("only pooling to 1x1 is known")
    return Mean(call.inputs, call.result(n, c, 1, 1), call.source, keep_dims=True)


_LAYERS: dict[type[nn.Module], Callable[[Call], Node | Value]] = {
    nn.Conv2d: _conv,
    nn.BatchNorm2d: _batch_norm,
    nn.Linear: _linear,
    nn.ReLU: _activation("relu"),
    nn.ReLU6: _activation("relu6"),
    nn.Hardswish: _activation("hswish"),
    nn.Hardsigmoid: _activation("hsigmoid"),
    nn.Sigmoid: _activation("sigmoid"),
    nn.AdaptiveAvgPool2d: _global_pool,
    nn.Identity: _identity,
    nn.Dropout: _identity,
    ChannelShuffle: _shuffle,
}
_FUNCTIONS: dict[object, Callable[[Call], Node | Value]] = {
    operator.add: _binary("add"),
    operator.mul: _binary("mul"),
    torch.add: _binary("add"),
    torch.mul: _binary("mul"),
    torch.mean: _mean,
    torch.relu: _activation("relu"),
    torch.sigmoid: _activation("sigmoid"),
    F.relu: _activation("relu"),
    F.relu6: _activation("relu6"),
    F.hardswish: _activation("hswish"),
    F.hardsigmoid: _activation("hsigmoid"),
}
_METHODS = {each.__name__: _FUNCTIONS[each] for each in (torch.add, torch.mul, torch.mean, torch.relu, torch.sigmoid)}
