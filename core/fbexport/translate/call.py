"""Call: one call that torch.fx recorded (a layer, a function, a method), and the operators that it becomes."""

import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from fbexport.errors import ExportError, module_name
from fbexport.graph import Array, Constant, Node, Value

Results: TypeAlias = Value | tuple[Value, ...]
_OWN = str(Path(__file__).parent)
_TRACER = str(Path(__file__).parent.parent / "trace.py")
_TORCH = str(Path(torch.__file__).parent)


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """What is called, in which module, with which arguments; values of the graph stand among them.

    Operators that it becomes are put behind `nodes`, which are by the names of what they make.
    """

    name: str
    operator: str
    source: str
    layer: Any
    args: tuple[Any, ...]
    options: Mapping[str, Any]
    nodes: dict[str, Node]
    made: list[str] = field(default_factory=list)

    @property
    def inputs(self) -> tuple[Value, ...]:
        """The values among the arguments."""
        return tuple(_values((self.args, tuple(self.options.values()))))

    @property
    def input(self) -> Value:
        """The first argument, a value."""
        return self.value(self.args[0] if self.args else self.options.get("input"))

    def bind(self, **known: Any) -> list[Any]:
        """Return the arguments in the order of the names, by place or by name, or as given here.

        Raises ExportError for one that is not among the names.
        """
        options = {"dim" if name in ("axis", "axes") else name: value for name, value in self.options.items()}
        if len(self.args) > len(known) or options.keys() - known.keys():
            extra = sorted(options.keys() - known.keys()) or list(self.args[len(known) :])
            raise self.error(f"its argument {extra[0]!r} is not known here")
        given = dict(zip(known, self.args, strict=False)) | options
        return [given.get(name, default) for name, default in known.items()]

    def again(self, *args: Any, **options: Any) -> "Call":
        """Return the call of a function with other arguments, in its place."""
        return replace(self, layer=None, args=args, options=options)

    def add(self, kind: Callable[..., Node], inputs: Sequence[Value], shape: Sequence[int], **fields: Any) -> Value:
        """Add an operator and return the value that it makes; the first has the name of the call."""
        self.made.append(f"{self.name}_{len(self.made) + 1}" if self.name in self.made else self.name)
        node = kind(tuple(inputs), Value(self.made[-1], tuple(shape)), self.source, **fields)
        self.nodes[node.output.name] = node
        return node.output

    def constant(self, array: ArrayLike) -> Constant:
        """Return a constant."""
        numbers = np.ascontiguousarray(array, np.float32)
        self.made.append(f"{self.name}_constant_{len(self.made) + 1}")
        return Constant(self.made[-1], numbers.shape, numbers)

    def value(self, argument: Any) -> Value:
        """Return an argument as a value: tensors and numbers become constants. Raises ExportError for others."""
        if isinstance(argument, Value):
            return argument
        if isinstance(argument, int | float):
            return self.constant(np.array(argument, np.float32))
        if isinstance(argument, Tensor) and argument.dtype != torch.bool:
            return self.constant(float32(argument))
        raise self.error(f"it needs a tensor, not {argument!r:.60}")

    def weight(self, argument: Any) -> Array | None:
        """Return an argument that must be known beforehand, or None. Raises ExportError."""
        if isinstance(argument, Constant):
            return argument.array
        if isinstance(argument, Value):
            raise self.error("its weights must be parameters, and not computed from the input")
        return None if argument is None else float32(argument)

    def error(self, reason: str) -> ExportError:
        """Return the error that says where this call is and why it has no translation."""
        where = module_name(self.source) + _place()
        return ExportError(f"operator {self.operator} of {where} cannot be exported: {reason}")

    def image(self) -> tuple[int, int, int, int]:
        """Return N, C, H, W of the only input. Raises ExportError for another rank."""
        shape = self.inputs[0].shape if self.inputs else ()
        if len(shape) != 4 or len(self.inputs) > 1:
            raise self.error(f"it needs one input of N, C, H, W, not {[value.shape for value in self.inputs]}")
        n, c, h, w = shape
        return n, c, h, w

    def shape_by(self, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """Return what torch makes of arguments' shapes: a shape, or several. Raises ExportError where it refuses."""
        try:
            made = function(*map(_empty, args), **options)
        except (RuntimeError, TypeError, IndexError, ValueError) as error:
            raise self.error((str(error).splitlines() or ["torch refuses its arguments"])[0]) from None
        return tuple(made.shape) if isinstance(made, Tensor) else [tuple(each.shape) for each in made]


def pair(argument: Any) -> tuple[int, int]:
    """Return (height, width) of one number or of two."""
    sizes = tuple(argument) if isinstance(argument, tuple | list) else (argument,)
    return (int(sizes[0]), int(sizes[-1]))


def float32(tensor: Tensor) -> Array:
    """Return a tensor's numbers."""
    array: Array = tensor.detach().to("cpu", torch.float32).numpy()
    return array


def in_torch(layer: nn.Module | None) -> bool:
    """Whether a layer is one of torch's own."""
    return layer is not None and type(layer).__module__.startswith("torch.nn.")


def _empty(argument: Any) -> Any:
    if isinstance(argument, list | tuple) and any(isinstance(each, Value | Tensor) for each in argument):
        return [_empty(each) for each in argument]
    return torch.empty(argument.shape, device="meta") if isinstance(argument, Value | Tensor) else argument


def _values(argument: Any) -> Iterator[Value]:
    if isinstance(argument, Value):
        yield argument
    elif isinstance(argument, tuple | list):
        for each in argument:
            yield from _values(each)


def _place() -> str:
    """Return the line of the code that is traced, as ` (file:line)`."""
    for frame, line in traceback.walk_stack(None):
        file = frame.f_code.co_filename
        if file == _TRACER and frame.f_code.co_name == "trace":
            break
        if file != _TRACER and not file.startswith((_OWN, _TORCH)):
            return f" ({Path(file).name}:{line})"
    return ""
