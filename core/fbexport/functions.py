"""Functions: a graph and its operators as torch computes them, in float32."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from fbexport.errors import ExportError, module_name
from fbexport.graph import Activation, Array, Binary, Conv, Graph, Linear, Mean, Node, Shuffle, Value

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


@torch.no_grad()
def run_float(graph: Graph, x: Tensor) -> Iterator[tuple[Node | None, Value, Tensor]]:
    """Yield every value of a graph for an input of N, C, H, W, with the operator it comes of; first the input itself.

    N may differ from the graph's. Raises ExportError where the input has another shape.
    """
    if x.ndim != 4 or tuple(x.shape[1:]) != graph.input.shape[1:]:
        expected = ", ".join(map(str, graph.input.shape[1:]))
        raise ExportError(f"the network takes images of shape N, {expected}, not {', '.join(map(str, x.shape))}")
    values = {graph.input.name: x}
    yield None, graph.input, x
    for node in graph.nodes:
        made = function_of(node)(*(values[value.name] for value in node.inputs))
        values[node.output.name] = made
        yield node, node.output, made


def _tensor(array: Array) -> Tensor:
    """Return an array as a tensor of its own; constants in an archive must not share memory with a module."""
    return torch.from_numpy(array.copy())
