"""Trace: torch.fx follows a module's forward; BatchNorm is folded, identities vanish, and a Graph remains."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch import fx, nn

from fbexport.errors import ExportError, module_name
from fbexport.graph import Activation, Conv, Graph, Node, Value
from fbexport.translate import BatchNorm, is_chain, is_known, record, translate

# What torch.fx and Python raise where forward depends on a tensor's values or shape, or makes layers while it runs.
_UNTRACEABLE = (fx.proxy.TraceError, TypeError, RuntimeError, NameError)


def trace(module: nn.Module, input_shape: tuple[int, int, int, int]) -> Graph:
    """Return the graph of an eval-mode module for one input of N, C, H, W; no convolution is run.

    Raises ExportError naming the operator and the module it came from where something has no translation.
    """
    training = next((path for path, layer in module.named_modules() if layer.training), None)
    if training is not None:
        raise ExportError(f"{module_name(training)} is in training mode; call .eval() on the network before exporting")
    tracer = _Tracer()
    if is_known(module):  # torch.fx always looks into the root, even where that is a single layer
        module = nn.Sequential(module)
    recorded = tracer.trace(module)
    values: dict[fx.Node, Value] = {}
    nodes: list[Node] = []
    output: Value | None = None
    for node in recorded.nodes:
        if node.op == "placeholder":
            if values:
                raise ExportError(f"the network takes a second input, {node.target!r}; a model file has one")
            values[node] = Value("input", input_shape)
        elif node.op == "output":
            if not isinstance(node.args[0], fx.Node):
                raise ExportError("the network does not return exactly one tensor; a model file has one output")
            output = values[node.args[0]]
        else:
            for call in record(node, module, values, f"{len(nodes)}_{node.name}"):
                made = translate(call if node not in values else replace(call, inputs=(values[node],)), node.target)
                if isinstance(made, Node):
                    nodes.append(made)
                values[node] = made.output if isinstance(made, Node) else made
    if output is None or output.name == "input":
        raise ExportError("the network returns its input as it is: there is no operator to write")
    return Graph(Value("input", input_shape), output, _fuse(nodes, output))


class _Tracer(fx.Tracer):
    """torch.fx's tracer, with chains of known layers kept whole and errors that say where they happened.

    A chain (nn.Sequential of layers that have a translation) needs no tracing: its layers follow one another. That
    saves a third of the time.
    """

    def __init__(self) -> None:
        # Wrapping the functions of `math` costs a third of the time, and blocks do not use them.
        super().__init__(autowrap_modules=())  # type: ignore[arg-type]  # torch says a tuple of one

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return is_known(m) or is_chain(m) or super().is_leaf_module(m, module_qualified_name)

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        try:
            return super().call_module(m, forward, args, kwargs)
        except _UNTRACEABLE as error:
            raise _untraceable(self.path_of_module(m), m, error) from error

    def trace(self, root: Any, concrete_args: dict[str, Any] | None = None) -> fx.Graph:
        try:
            return super().trace(root, concrete_args)
        except _UNTRACEABLE as error:
            raise _untraceable("", root, error) from error


def _untraceable(path: str, layer: nn.Module, error: Exception) -> ExportError:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return ExportError(
        f"{module_name(path)} ({type(layer).__name__}) cannot be traced: {reason}. "
        "Its forward must not depend on the values or shapes of tensors"
    )


def _fuse(nodes: Sequence[Node], output: Value) -> tuple[Node, ...]:
    """Fold each BatchNorm and each ReLU into the convolution before it, where nothing else reads that convolution."""
    readers = Counter(value.name for node in nodes for value in node.inputs)
    readers[output.name] += 1
    made: dict[str, Node] = {}
    for node in nodes:
        before = made.get(node.inputs[0].name)
        if isinstance(before, Conv) and before.activation == "none" and readers[before.output.name] == 1:
            fused = _fused(before, node)
            if fused is not None:
                del made[before.output.name]
                made[node.output.name] = fused
                continue
        made[node.output.name] = _standing_alone(node) if isinstance(node, BatchNorm) else node
    return tuple(made.values())


def _fused(conv: Conv, node: Node) -> Conv | None:
    """Return a convolution that also does what the next operator does, or nothing where it cannot."""
    if isinstance(node, BatchNorm):
        weight = conv.weight * node.scale[:, None, None, None]
        return replace(conv, output=node.output, weight=weight, bias=conv.bias * node.scale + node.shift)
    if isinstance(node, Activation) and (node.function == "relu" or node.function == "relu6"):
        return replace(conv, output=node.output, activation=node.function)
    return None


def _standing_alone(norm: BatchNorm) -> Conv:
    """Return a BatchNorm that follows no convolution as what it is: a depthwise 1x1 convolution."""
    weight = np.ascontiguousarray(norm.scale).reshape(-1, 1, 1, 1)
    return Conv(
        norm.inputs, norm.output, norm.source, weight, norm.shift, stride=(1, 1), padding=(0, 0), groups=len(weight)
    )
