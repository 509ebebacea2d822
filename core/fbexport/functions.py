"""Functions: the operators of a graph as torch computes them, in float32."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from fbexport.errors import ExportError, module_name
from fbexport.graph import Activation, Array, Binary, Conv, Linear, Mean, Node, Shuffle

_FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "none": lambda x: x,
    "relu": torch.relu,
    "relu6": F.relu6,
    "hswish": F.hardswish,
    "hsigmoid": F.hardsigmoid,
    "sigmoid": torch.sigmoid,
    "add": torch.add,
    "mul": torch.mul,
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
            return _FUNCTIONS[node.function]
        case Binary():
            return _FUNCTIONS[node.operation]
        case Shuffle():
            _, c, h, w = node.output.shape
            split, joined = (-1, node.groups, c // node.groups, h, w), (-1, c, h, w)
            return lambda x: x.reshape(split).transpose(1, 2).reshape(joined)
        case Mean():
            return lambda x: x.mean((2, 3), keepdim=node.keep_dims)
        case _:
            raise ExportError(
                f"operator {type(node).__name__} of {module_name(node.source)} has no function; "
                "add it to fbexport/functions.py"
            )


def _tensor(array: Array) -> Tensor:
    """Return an array as a tensor of its own; constants in an archive must not share memory with a module."""
    return torch.from_numpy(array.copy())
