"""Functions: a graph and its operators as torch computes them, in float32."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from fbexport.errors import ExportError, module_name
from fbexport.graph import (
    Activation,
    Array,
    Binary,
    Concat,
    Constant,
    Conv,
    ConvTranspose,
    Expand,
    Graph,
    Linear,
    MatMul,
    Mean,
    Node,
    Norm,
    Pad,
    Pool,
    Reduce,
    Reshape,
    Resize,
    Shuffle,
    Slice,
    Softmax,
    Transpose,
    Value,
)  # fmt: skip

_FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "none": lambda x: x,
    "relu": torch.relu,
    "relu6": F.relu6,
    "hswish": F.hardswish,
    "hsigmoid": F.hardsigmoid,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "elu": F.elu,
    "leaky_relu": F.leaky_relu,
    "clamp": torch.clamp,
    "exp": torch.exp,
    "sqrt": torch.sqrt,
    "abs": torch.abs,
    "add": torch.add,
    "mul": torch.mul,
    "sub": torch.sub,
    "div": torch.div,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "prelu": lambda x, slope: torch.where(x < 0, x * slope, x),
    "mean": torch.mean,
    "sum": torch.sum,
    "max": torch.amax,
}


def function_of(node: Node, parameters: tuple[Tensor, Tensor] | None = None) -> Callable[..., Tensor]:
    """Return an operator as a function of its inputs, whose N may be any; `parameters` stand in for weight and bias.

    Raises ExportError for one that has none.
    """
    match node:
        case Conv():
            weight, bias = parameters or (_tensor(node.weight), _tensor(node.bias))
            after = _FUNCTIONS[node.activation]
            return lambda x: after(torch.conv2d(x, weight, bias, node.stride, node.padding, node.dilation, node.groups))
        case Linear():
            weight, bias = parameters or (_tensor(node.weight), _tensor(node.bias))
            return lambda x: F.linear(x, weight, bias)
        case Activation():
            after = _FUNCTIONS[node.function]
            return lambda x: after(x, *node.parameters)
        case Binary():
            return _FUNCTIONS[node.operation]
        case Shuffle():
            _, c, h, w = node.output.shape
            split, joined = (-1, node.groups, c // node.groups, h, w), (-1, c, h, w)
            return lambda x: x.reshape(split).transpose(1, 2).reshape(joined)
        case Mean():
            return lambda x: x.mean((2, 3), keepdim=node.keep_dims)
        case _ if type(node) in _MORE:
            return _MORE[type(node)](node)
        case _:
            raise ExportError(
                f"operator {type(node).__name__} of {module_name(node.source)} has no function; "
                "add it to fbexport/functions.py"
            )


@torch.no_grad()
def run_float(graph: Graph, x: Tensor) -> Iterator[tuple[Node | None, Value, Tensor]]:
    """Yield every value of a graph for an input of N, C, H, W, with the operator it comes of; first the input itself.

    N may differ from the graph's. Raises ExportError where the input has another shape.
    """
    if tuple(x.shape[1:]) != graph.input.shape[1:]:
        expected = ", ".join(map(str, graph.input.shape[1:]))
        raise ExportError(f"the network takes images of shape N, {expected}, not {', '.join(map(str, x.shape))}")
    values = {graph.input.name: x} | constants_of(graph)
    yield None, graph.input, x
    for node in graph.nodes:
        made = function_of(node)(*(values[value.name] for value in node.inputs))
        values[node.output.name] = made
        yield node, node.output, made


def constants_of(graph: Graph) -> dict[str, Tensor]:
    """Return the constants that operators of a graph read, by name."""
    return {
        value.name: _tensor(value.array) for node in graph.nodes for value in node.inputs if isinstance(value, Constant)
    }


def _conv_transpose(node: ConvTranspose) -> Callable[..., Tensor]:
    weight, bias = _tensor(node.weight), _tensor(node.bias)
    return lambda x: F.conv_transpose2d(
        x, weight, bias, node.stride, node.padding, node.extra, node.groups, node.dilation
    )


def _reduce(node: Reduce) -> Callable[..., Tensor]:
    function = _FUNCTIONS[node.operation]
    return lambda x: function(x, node.axes, keepdim=node.keep_dims)


def _norm(node: Norm) -> Callable[..., Tensor]:
    weight, bias = (
        torch.tensor(default) if each is None else _tensor(each)
        for each, default in ((node.weight, 1.0), (node.bias, 0.0))
    )

    def run(x: Tensor) -> Tensor:
        apart = x - x.mean(node.axes, keepdim=True)
        return apart * torch.rsqrt((apart * apart).mean(node.axes, keepdim=True) + node.epsilon) * weight + bias

    return run


def _pool(node: Pool) -> Callable[..., Tensor]:
    top, left, bottom, right = node.padding
    around = (left, right, top, bottom)
    if node.operation == "max":
        return lambda x: F.max_pool2d(
            F.pad(x, around, value=-math.inf), node.kernel, node.stride, dilation=node.dilation
        )
    counts = F.avg_pool2d(F.pad(torch.ones(1, 1, *node.inputs[0].shape[2:]), around), node.kernel, node.stride)
    return lambda x: F.avg_pool2d(F.pad(x, around), node.kernel, node.stride) / counts


def _resize(node: Resize) -> Callable[..., Tensor]:
    align = node.align_corners if node.mode == "bilinear" else None
    return lambda x: F.interpolate(x, node.output.shape[2:], mode=node.mode, align_corners=align)


def _slice(node: Slice) -> Callable[..., Tensor]:
    """Return a function; axes of which nothing is left out may have any size."""
    bounds = zip(node.starts, node.stops, node.steps, strict=True)
    parts = tuple(
        slice(None) if each == (0, size, 1) else slice(*each)
        for each, size in zip(bounds, node.inputs[0].shape, strict=True)
    )
    return lambda x: x[parts]


def _expand(node: Expand) -> Callable[..., Tensor]:
    first = -1 if node.inputs[0].shape[0] == node.output.shape[0] else node.output.shape[0]
    return lambda x: x.expand(first, *node.output.shape[1:])


_MORE: dict[type[Node], Callable[[Any], Callable[..., Tensor]]] = {
    ConvTranspose: _conv_transpose,
    MatMul: lambda node: torch.matmul,
    Softmax: lambda node: lambda x: torch.softmax(x, node.axis),
    Reduce: _reduce,
    Norm: _norm,
    Pool: _pool,
    Resize: _resize,
    Pad: lambda node: lambda x: F.pad(x, [n for pair in reversed(node.amounts) for n in pair], value=node.number),
    Concat: lambda node: lambda *each: torch.cat(each, node.axis),
    Slice: _slice,
    Reshape: lambda node: lambda x: x.reshape(-1, *node.output.shape[1:]),
    Transpose: lambda node: lambda x: x.permute(node.axes),
    Expand: _expand,
}


def _tensor(array: Array) -> Tensor:
    """Return an array as a tensor of its own; constants in an archive must not share memory with a module."""
    return torch.from_numpy(array.copy())
