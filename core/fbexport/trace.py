"""Trace: torch.fx follows a module's forward; BatchNorm is folded, identities vanish, and a Graph remains."""

import inspect
import operator
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from fbexport.errors import ExportError, module_name
from fbexport.graph import (
    Activation,
    Binary,
    Constant,
    Conv,
    ConvTranspose,
    Expand,
    Graph,
    Linear,
    Node,
    Reshape,
    Shape,
    Shapes,
    Slice,
    Transpose,
    Value,
    shapes_of,
)  # fmt: skip
from fbexport.translate import BatchNorm, Call, in_torch, is_chain, is_known, links, translate

_UNTRACEABLE = (
    fx.proxy.TraceError, ArithmeticError, AssertionError, AttributeError, LookupError, NameError, RuntimeError,
    TypeError, ValueError,
)  # fmt: skip
"""What Python and torch.fx raise where forward depends on a tensor's values, or makes layers while it runs."""
_REST = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def trace(module: nn.Module, shapes: Shapes) -> Graph:
    """Return the graph of an eval-mode module for inputs of these shapes, e.g. N, C, H, W; no convolution is run.

    They are forward's first arguments; what it returns may be tuples, lists and dictionaries of tensors. Forward may
    depend on shapes, which are known, and parameters and constants may be used in it. Raises ExportError naming the
    operator and the module it came from where something has no translation.
    """
    training = next((path for path, layer in module.named_modules() if layer.training), None)
    if training is not None:
        raise ExportError(f"{module_name(training)} is in training mode; call .eval() on the network before exporting")
    if is_known(module):  # torch.fx always looks into the root, even where that is a single layer
        module = nn.Sequential(module)
    tracer = _Tracer(shapes_of(shapes))
    with torch.no_grad():
        recorded = tracer.trace(module)
    returned = dict(tracer.returned(next(reversed(recorded.nodes)).args[0]))
    outputs, inputs = tuple(returned.values()), tuple(tracer.inputs)
    if not outputs:
        raise ExportError("the network returns no tensor")
    nodes = _needed(_fuse([*tracer.nodes.values()], outputs), outputs)
    unused = {value.name for value in inputs} - {value.name for node in nodes for value in node.inputs}
    if unused:
        raise ExportError(f"the network does not use its input {min(unused)!r}: leave it out")
    return Graph(inputs, outputs, nodes, tuple(returned))


def input_names(module: nn.Module) -> list[str]:
    """Return the names of forward's arguments, which inputs have where there are several."""
    return [each.name for each in _parameters(type(module).forward) if each.kind not in _REST]


def _parameters(forward: Callable[..., Any]) -> list[inspect.Parameter]:
    return [*inspect.signature(forward).parameters.values()][1:]


class _Proxy(fx.Proxy):
    """A value while it is traced: it knows its shape, so that forward may compute with that."""

    tracer: "_Tracer"

    @property
    def shape(self) -> torch.Size:
        return torch.Size(self.tracer.values[self.node].shape)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def dtype(self) -> torch.dtype:
        return torch.float32

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    def size(self, dim: int | None = None) -> Any:
        return self.shape if dim is None else self.shape[dim]

    def dim(self) -> int:
        return self.ndim

    def numel(self) -> int:
        return self.shape.numel()

    def is_floating_point(self) -> bool:
        return True

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Any:
        each: Any = self  # fx.Proxy has no item for mypy, but does
        return iter([each[at] for at in range(len(self))])

    is_cuda = requires_grad = is_nested = is_sparse = False


class _Tracer(fx.Tracer):
    """torch.fx's tracer, which translates every call at once, with errors that say where they happened.

    Layers with a translation are not looked into, nor are chains (nn.Sequential of such layers): their layers follow
    one another. That saves a third of the time.
    """

    def __init__(self, shapes: Sequence[Shape]) -> None:
        # Wrapping the functions of `math` costs a third of the time, and shapes are numbers here.
        super().__init__(autowrap_modules=())  # type: ignore[arg-type]  # torch says a tuple of one
        self.shapes = shapes
        self.inputs: list[Value] = []
        self.nodes: dict[str, Node] = {}
        self.values: dict[fx.Node, Value] = {}
        self._tensors: dict[fx.Node, Tensor] = {}
        self._overwritten: dict[str, Call] = {}

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return is_known(m) or is_chain(m)

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Proxy(node, self)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        return attr_val  # parameters as they are: what depends on nothing else is computed at once

    def create_arg(self, a: Any) -> Any:
        if not isinstance(a, Tensor):
            return super().create_arg(a)
        node = self.create_node("get_attr", "tensor", (), {})
        self._tensors[node] = a
        return node

    def create_args_for_root(self, root_fn: Any, is_module: bool, concrete_args: Any = None) -> tuple[Any, list[Any]]:
        """Return forward and its arguments: the inputs, and defaults for the rest."""
        parameters = _parameters(root_fn)
        named = [each for each in parameters if each.kind not in _REST]
        lacking = [each.name for each in named[len(self.shapes) :] if each.default is each.empty]
        if lacking:
            raise ExportError(f"the network takes another input, {lacking[0]!r}: give its shape, too")
        if len(self.shapes) > len(named) == len(parameters):
            raise ExportError(f"{len(self.shapes)} shapes are given, and the network takes {len(named)} inputs")
        nodes = []
        for at, shape in enumerate(self.shapes):
            name = named[at].name if at < len(named) else f"input_{at}"
            nodes.append(self.create_node("placeholder", name, (), {}))
            self.inputs.append(Value(_name(name, f"input_{at}") if len(self.shapes) > 1 else "input", shape))
        self.values |= dict(zip(nodes, self.inputs, strict=True))
        return root_fn, [self.root, *map(self.proxy, nodes)]

    def returned(self, result: Any) -> Iterator[tuple[str, Value]]:
        """Yield the values that are returned, each with its name in files. Raises ExportError for what is none."""
        taken, seen, found = {value.name for value in self.inputs}, set[Value](), [*_flat(result)]
        for at, (key, each) in enumerate(found):
            if not isinstance(each, fx.Node) or not (each in self.values or each in self._tensors):
                raise ExportError("the network must return tensors, alone or in tuples, lists and dictionaries")
            value = self.filled(each)
            if isinstance(value, Tensor | Constant):
                raise ExportError("the network returns a tensor that depends on no input: leave it out")
            if value in self.inputs:
                raise ExportError("the network returns its input as it is: there is no operator to write")
            if value in seen:
                raise ExportError("the network returns a tensor twice: leave one out")
            name = _name(key, "output" if len(found) == 1 else f"output_{at}")
            while name in taken:
                name += "_out"
            taken.add(name)
            seen.add(value)
            yield name, value

    def create_proxy(self, kind: str, target: Any, args: Any, kwargs: Any, *rest: Any, **options: Any) -> Any:
        """Record a call and translate it; what torch returns as a tuple is one here."""
        if kind == "call_function" and target is getattr and args[1] not in ("T", "mT", "H", "mH"):
            raise RuntimeError(f"{args[1]!r} of a tensor is not known here")
        proxy = super().create_proxy(kind, target, args, kwargs, *rest, **options)
        node = proxy.node
        call = self._call(node)
        made: Any = call.inputs[0] if call.inputs else None
        for link in links(call) if call.layer is not None and is_chain(call.layer) else [call]:
            made = translate(link if made is None or link is call else replace(link, args=(made,)), node.target)
        if _is_in_place(node, call):
            self._overwritten |= {value.name: call for value in self._seen_through(call.inputs[0])}
        if isinstance(made, Value):
            self.values[node] = made
            return proxy
        parts = [self.create_node("call_function", operator.getitem, (node, at), {}) for at in range(len(made))]
        self.values |= dict(zip(parts, made, strict=True))
        return tuple(map(self.proxy, parts))

    def _call(self, node: fx.Node) -> Call:
        stack = node.meta.get("nn_module_stack") or {}
        source = next(reversed(stack.values()))[0] if stack else ""
        module = self.root.get_submodule(source) if node.op != "call_module" and source else self.root
        layer = self.root.get_submodule(str(node.target)) if node.op == "call_module" else None
        target = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
        name = type(layer).__name__ if layer is not None else type(module).__name__ if in_torch(module) else target
        filled: Any = fx.node.map_arg((node.args, node.kwargs), self.filled)  # type: ignore[arg-type]
        args, options = filled
        return Call(f"{len(self.nodes)}_{node.name}", name, source, layer, args, options, self.nodes)

    def filled(self, node: fx.Node) -> Value | Tensor:
        """Return what a node stands for. Raises ExportError where that was overwritten meanwhile."""
        if node in self._tensors:
            return self._tensors[node]
        value = self.values[node]
        if self._overwritten:
            for each in self._seen_through(value):
                if each.name in self._overwritten:
                    call = self._overwritten[each.name]
                    raise call.error("it overwrites a tensor that is used elsewhere too; drop inplace=True")
        return value

    def _seen_through(self, value: Value) -> list[Value]:
        """Return a value and those that it is a view of."""
        found = [value]
        while isinstance(maker := self.nodes.get(found[-1].name), Reshape | Transpose | Slice | Expand):
            found.append(maker.inputs[0])
        return found

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if not any(isinstance(each, fx.Proxy) for each in (*args, *kwargs.values())) and args:
            return forward(*args, **kwargs)  # it is computed at once, like all that depends on no input
        try:
            return super().call_module(m, forward, args, kwargs)
        except _UNTRACEABLE as error:
            raise _untraceable(self.path_of_module(m), m, error) from error

    def trace(self, root: Any, concrete_args: dict[str, Any] | None = None) -> fx.Graph:
        try:
            return super().trace(root, concrete_args)
        except _UNTRACEABLE as error:
            raise _untraceable("", root, error) from error


def _name(name: object, other: str) -> str:
    """Return a name if it can be one in every file, else another."""
    return name if isinstance(name, str) and re.fullmatch(r"[A-Za-z_][A-Za-z_0-9]{0,49}", name) else other


def _flat(result: Any, key: object = None) -> Iterator[tuple[object, Any]]:
    """Yield what tuples, lists and dictionaries hold, with its key there if it has one."""
    pairs: Iterable[tuple[object, Any]]
    if isinstance(result, dict):
        pairs = result.items()
    elif isinstance(result, tuple | list):
        pairs = [(None, each) for each in result]
    elif fields := getattr(getattr(result, "target", None), "_fields", None):  # torch.fx calls named tuples
        pairs = zip(fields, result.args, strict=True)
    else:
        yield key, result
        return
    for inner, each in pairs:
        yield from _flat(each, inner)


def _is_in_place(node: fx.Node, call: Call) -> bool:
    """Whether a call writes what it makes over its input."""
    if getattr(call.layer, "inplace", False) or call.options.get("inplace"):
        return not isinstance(call.layer, nn.Dropout)
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    return name.endswith("_") and not name.endswith("__") and name != "requires_grad_"


def _untraceable(path: str, layer: nn.Module, error: Exception) -> ExportError:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return ExportError(
        f"{module_name(path)} ({type(layer).__name__}) cannot be traced: {reason}. "
        "Its forward must not depend on the values of tensors"
    )


def _fuse(nodes: Sequence[Node], outputs: Sequence[Value]) -> tuple[Node, ...]:
    """Fold each BatchNorm and each ReLU into the convolution before it, where nothing else reads that convolution."""
    readers = Counter(value.name for node in nodes for value in node.inputs)
    readers.update(value.name for value in outputs)
    made: dict[str, Node] = {}
    for node in nodes:
        before = made.get(node.inputs[0].name)
        if before is not None and readers[before.output.name] == 1 and getattr(before, "activation", "none") == "none":
            fused = _fused(before, node)
            if fused is not None:
                del made[before.output.name]
                made[node.output.name] = fused
                continue
        for alone in _standing_alone(node) if isinstance(node, BatchNorm) else [node]:
            made[alone.output.name] = alone
    return tuple(made.values())


def _fused(layer: Node, node: Node) -> Node | None:
    """Return a layer that also does what the next operator does, or nothing where it cannot."""
    if isinstance(node, BatchNorm):
        if isinstance(layer, ConvTranspose) and layer.groups == 1:
            return _scaled(layer, node, (1, -1, 1, 1))
        if isinstance(layer, Linear) and len(layer.output.shape) == 2:
            return _scaled(layer, node, (-1, 1))
        return _scaled(layer, node, (-1, 1, 1, 1)) if isinstance(layer, Conv) else None
    if isinstance(layer, Conv) and isinstance(node, Activation) and node.function in ("relu", "relu6"):
        return replace(layer, output=node.output, activation=node.function)
    return None


def _scaled(layer: Any, norm: BatchNorm, channels: tuple[int, ...]) -> Node:
    """Return a layer with a normalisation in its weights; `channels` is the shape of scales beside these."""
    weight, bias = layer.weight * norm.scale.reshape(channels), layer.bias * norm.scale + norm.shift
    made: Node = replace(layer, output=norm.output, weight=weight, bias=bias)
    return made


def _standing_alone(norm: BatchNorm) -> list[Node]:
    """Return a BatchNorm that follows no convolution as what it is: a depthwise 1x1 convolution, or product and sum."""
    value, output = norm.inputs[0], norm.output
    if len(value.shape) == 4:
        weight = np.ascontiguousarray(norm.scale).reshape(-1, 1, 1, 1)
        return [
            Conv(
                norm.inputs, output, norm.source, weight, norm.shift, stride=(1, 1), padding=(0, 0), groups=len(weight)
            )
        ]
    shape = (1, -1, *[1] * (len(value.shape) - 2))
    scale, shift = norm.scale.reshape(shape), norm.shift.reshape(shape)
    scaled = Value(f"{output.name}_scaled", output.shape)
    factors = (value, Constant(f"{output.name}_scale", scale.shape, scale))
    summands = (scaled, Constant(f"{output.name}_shift", shift.shape, shift))
    return [
        Binary(factors, scaled, norm.source, operation="mul"), Binary(summands, output, norm.source, operation="add"),
    ]  # fmt: skip


def _needed(nodes: Sequence[Node], outputs: Sequence[Value]) -> tuple[Node, ...]:
    """Return the operators that the outputs depend on."""
    needed, kept = {value.name for value in outputs}, []
    for node in reversed(nodes):
        if node.output.name in needed:
            needed.update(value.name for value in node.inputs)
            kept.append(node)
    return tuple(reversed(kept))
