"""Observed: what a module computes, operation by operation, by running it once and looking at what torch is asked for.

So every module that runs can be taken apart, whatever its forward is written in.
"""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fbexport.errors import ExportError

_FULLY_CONNECTED = {"addmm": 2, "mm": 1, "linear": 1}
"""Where the weight is among the arguments."""
_NORMS = ("native_batch_norm", "_native_batch_norm_legit_no_training", "batch_norm", "cudnn_batch_norm")
_RELU = ("relu", "hardtanh", "relu6", "clamp", "clamp_min")
_FREE = ("_unsafe_view", "empty", "detach", "lift_fresh")
_UNCOUNTED = re.compile("attention|rnn|lstm|gru|bmm|fft|einsum")
"""What is no convolution and no fully connected layer, and takes as long: of these no row tells anything."""


@dataclass(frozen=True, slots=True)
class Value:
    """A tensor between operations, by number, and its shape as it is read or written."""

    number: int
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Operation:
    """What torch is asked for: `name` is that of the function, `source` the module that asks.

    A convolution or fully connected layer has multiply-accumulates and the shape of its weight; batch normalisation and
    ReLU that follow are part of it. `window` has what else tells one from another: stride, padding, dilation, groups.
    """

    name: str
    source: str
    inputs: tuple[Value, ...]
    output: Value
    macs: int = 0
    weight: tuple[int, ...] = ()
    groups: int = 1
    window: tuple[object, ...] = ()
    has_relu: bool = False

    @property
    def is_layer(self) -> bool:
        """Whether it is a convolution or fully connected."""
        return bool(self.weight)

    @property
    def is_depthwise(self) -> bool:
        """Whether every input channel is filtered by itself."""
        return self.groups > 1 and self.weight[1] == 1


def observe(module: nn.Module, input_shape: tuple[int, ...]) -> list[Operation]:
    """Return what an eval-mode module does with zeros of a shape, in order; what it prints goes to stderr.

    Raises ExportError where it does not run, and for an operation that is neither a convolution nor light.
    """
    observer = _Observer()
    x = torch.zeros(input_shape)
    observer.know(x)
    try:
        with redirect_stdout(sys.stderr), torch.no_grad(), _paths(module, observer.path), observer:
            module(x)
    except ExportError:
        raise
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0]
        where = f"module {observer.path[-1]!r}" if observer.path[-1] else "the network"
        shape = "x".join(map(str, input_shape))
        raise ExportError(f"{where} does not run on an input of {shape}: {type(error).__name__}: {reason}") from None
    if not any(operation.is_layer for operation in observer.operations):
        raise ExportError("the network has no convolution and no fully connected layer")
    return observer.operations


@contextmanager
def _paths(module: nn.Module, path: list[str]) -> Iterator[None]:
    """Keep the path of the module that runs at the end of a list."""

    def left(*_: object) -> None:
        path.pop()

    handles = []
    for name, part in module.named_modules():
        handles.append(part.register_forward_pre_hook(lambda _module, _args, name=name: path.append(name)))
        handles.append(part.register_forward_hook(left))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class _Observer(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch says no types
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations: list[Operation] = []
        self.path: list[str] = [""]
        self._values: dict[int, Value] = {}
        self._kept: list[Tensor] = []  # as long as one lives, its id is its own
        self._number = 0

    def know(self, tensor: Tensor, same_as: Value | None = None) -> Value:
        """Give a tensor a number, that of another value where it holds the same."""
        self._number += 1
        value = Value(self._number if same_as is None else same_as.number, tuple(tensor.shape))
        self._values[id(tensor)] = value
        self._kept.append(tensor)
        return value

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Say that torch's compiler need not be kept out, for which torch would import it, for seconds."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        read = [tensor for tensor in tree_leaves((args, kwargs)) if isinstance(tensor, Tensor)]
        inputs = tuple(self._values[id(tensor)] for tensor in read if id(tensor) in self._values)
        made = [tensor for tensor in tree_leaves(result) if isinstance(tensor, Tensor)]
        if inputs and made:
            self._take(func, args, inputs, made)
        return result

    def _take(self, func: Any, args: Any, inputs: tuple[Value, ...], made: list[Tensor]) -> None:
        name = func.overloadpacket.__name__
        name = name if name.startswith("_") else name.rstrip("_")
        last = self.operations[-1] if self.operations else None
        follows = last is not None and last.is_layer and not last.has_relu and inputs[0].number == last.output.number
        if _UNCOUNTED.search(name):
            raise ExportError(f"module {self.path[-1]!r} computes {name}, of which the rows of a table tell nothing")
        if func.is_view or name in _FREE or (follows and name in _NORMS):
            for tensor in made:
                self.know(tensor, same_as=inputs[0])
        elif follows and last is not None and name in _RELU:
            self.know(made[0], same_as=inputs[0])
            self.operations[-1] = replace(last, has_relu=True)
        else:
            output = self.know(made[0])
            self.operations.append(_operation(name, self.path[-1], args, inputs, output))


def _operation(name: str, source: str, args: Any, inputs: tuple[Value, ...], output: Value) -> Operation:
    made = torch.Size(output.shape).numel()
    if name == "convolution":
        weight, (stride, padding, dilation, transposed, _, groups) = args[1], args[3:9]
        per_value = weight[0].numel()
        macs = per_value * (torch.Size(inputs[0].shape).numel() if transposed else made)
        window = tuple(stride), tuple(padding), tuple(dilation), transposed
        return Operation(name, source, inputs, output, macs, tuple(weight.shape), groups, window)
    if name in _FULLY_CONNECTED:
        weight = args[_FULLY_CONNECTED[name]]
        macs = made * weight.numel() // output.shape[-1]
        return Operation("linear", source, inputs, output, macs, tuple(weight.shape))
    return Operation("relu" if name in _RELU else name, source, inputs, output)
