"""What is computed of every element by itself: activations, and sums, products and the like of two values."""

import operator
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fbexport.graph import Activation, Binary, Constant, Expand, Function, Operation, Value
from fbexport.translate.call import Call, Results, in_torch
from fbexport.translate.moves import at_rank


def activation(call: Call, x: Value, function: Function, *parameters: float) -> Value:
    """Add a function."""
    return call.add(Activation, [x], x.shape, function=function, parameters=tuple(map(float, parameters)))


def _activation(function: Function) -> Callable[[Call], Value]:
    def build(call: Call) -> Value:
        if call.layer is not None and not in_torch(call.layer):
            raise call.error("it needs one tensor and no options")
        x, _ = (call.input, None) if call.layer is not None else call.bind(input=None, inplace=False)
        return activation(call, call.value(x), function)

    return build


def _gelu(call: Call) -> Value:
    x, approximate = call.bind(input=None, approximate="none")
    return activation(call, call.value(x), "gelu" if approximate == "none" else "gelu_tanh")


def _elu(call: Call) -> Value:
    x, alpha, _ = call.bind(input=None, alpha=1.0, inplace=False)
    return activation(call, call.value(x), "elu", alpha)


def _leaky_relu(call: Call) -> Value:
    x, slope, _ = call.bind(input=None, negative_slope=0.01, inplace=False)
    return activation(call, call.value(x), "leaky_relu", slope)


def _prelu(call: Call) -> Value:
    x, weight = call.bind(input=None, weight=None)
    x, slope = call.value(x), call.weight(weight)
    assert slope is not None
    shape = [1] * len(x.shape)
    shape[1 if len(shape) > 1 else 0] = slope.size
    return call.add(Binary, [x, call.constant(slope.reshape(shape))], x.shape, operation="prelu")


def _clamp(call: Call) -> Value:
    x, low, high = call.bind(input=None, min=None, max=None)
    return _clamped(call, call.value(x), low, high)


def _hardtanh(call: Call) -> Value:
    x, low, high, _ = call.bind(input=None, min_val=-1.0, max_val=1.0, inplace=False)
    return _clamped(call, call.value(x), low, high)


def _clamped(call: Call, x: Value, low: Any, high: Any) -> Value:
    """Add a clamp between two numbers; those that have a name of their own are common."""
    if not all(each is None or isinstance(each, int | float) for each in (low, high)):
        raise call.error("its bounds must be numbers")
    bounds = -np.inf if low is None else float(low), np.inf if high is None else float(high)
    named: dict[tuple[float, float], Function] = {(0.0, 6.0): "relu6", (0.0, np.inf): "relu"}
    if bounds in named:
        return activation(call, x, named[bounds])
    return activation(call, x, "clamp", *bounds)


def binary(call: Call, first: Any, second: Any, operation: Operation) -> Value:
    """Add an operation on two values, either of which may be a number or a parameter."""
    values = [call.value(first), call.value(second)]
    rank = max(len(value.shape) for value in values)
    values = [at_rank(call, value, rank) for value in values]
    try:
        shape = np.broadcast_shapes(*(value.shape for value in values))
        unexpanded = [_unexpanded(call, value) for value in values]
        if np.broadcast_shapes(*(value.shape for value in unexpanded)) == shape:
            values = unexpanded
    except ValueError:
        shapes = " and ".join(str(value.shape) for value in values)
        raise call.error(f"its inputs do not fit: {shapes}") from None
    if operation == "div" and isinstance(values[1], Constant) and values[1].array.all():
        values, operation = [values[0], call.constant(1 / values[1].array)], "mul"
    return call.add(Binary, values, shape, operation=operation)


def _unexpanded(call: Call, value: Value) -> Value:
    """Return what a value was before it was repeated, which broadcasting does anyway."""
    maker = call.nodes.get(value.name)
    return maker.inputs[0] if isinstance(maker, Expand) else value


def _binary(operation: Operation, is_reflected: bool = False) -> Callable[[Call], Value]:
    def build(call: Call) -> Value:
        first, second, alpha, _ = call.bind(input=None, other=None, alpha=1, rounding_mode=None)
        if call.options.get("rounding_mode") is not None:
            raise call.error("only true division is known")
        if is_reflected:
            first, second = second, first
        if not any(isinstance(each, Value) for each in (first, second)):
            raise call.error("it needs a tensor that depends on the input")
        if alpha != 1:
            second = binary(call, second, alpha, "mul")
        return binary(call, first, second, operation)

    return build


def _power(call: Call) -> Value:
    x, exponent = call.bind(input=None, exponent=None)
    x = call.value(x)
    if exponent == 2:
        return binary(call, x, x, "mul")
    if exponent in (0.5, -0.5):
        root = activation(call, x, "sqrt")
        return root if exponent > 0 else binary(call, 1.0, root, "div")
    raise call.error(f"only the powers 2, 0.5 and -0.5 are known, not {exponent!r:.20}")


def _of_power(exponent: float) -> Callable[[Call], Value]:
    def build(call: Call) -> Value:
        return _power(call.again(call.input, exponent))

    return build


def _add_product(call: Call) -> Value:
    x, first, second, factor = call.bind(input=None, tensor1=None, tensor2=None, value=1)
    product = binary(call, first, second, "mul")
    return binary(call, x, product if factor == 1 else binary(call, product, factor, "mul"), "add")


def _negative(call: Call) -> Value:
    return binary(call, call.input, -1.0, "mul")


def _expand(call: Call) -> Value:
    x = call.input
    other = call.args[1] if len(call.args) == 2 and isinstance(call.args[1], Value | Tensor) else None
    shape = tuple(other.shape) if other is not None else call.shape_by(Tensor.expand, x, *call.args[1:])
    if len(shape) != len(x.shape):
        x = at_rank(call, x, len(shape))
    return x if shape == x.shape else call.add(Expand, [x], shape)


_SIMPLE: Mapping[str, Function] = {
    "relu": "relu", "relu6": "relu6", "hardswish": "hswish", "hardsigmoid": "hsigmoid", "sigmoid": "sigmoid",
    "tanh": "tanh", "silu": "silu", "exp": "exp", "sqrt": "sqrt", "abs": "abs",
}  # fmt: skip
_OPERATIONS: Mapping[str, Operation] = {
    "add": "add", "sub": "sub", "mul": "mul", "div": "div", "truediv": "div", "maximum": "maximum",
    "minimum": "minimum", "true_divide": "div", "multiply": "mul", "subtract": "sub",
}  # fmt: skip
LAYERS: dict[type[nn.Module], Callable[[Call], Results]] = {
    nn.ReLU: _activation("relu"),
    nn.ReLU6: _activation("relu6"),
    nn.Hardswish: _activation("hswish"),
    nn.Hardsigmoid: _activation("hsigmoid"),
    nn.Sigmoid: _activation("sigmoid"),
}
FUNCTIONS: Mapping[object, Callable[[Call], Results]] = {
    **{
        getattr(place, name): _activation(f)
        for name, f in _SIMPLE.items()
        for place in (F, torch)
        if hasattr(place, name)
    },
    **{
        getattr(at, name): _binary(o)
        for name, o in _OPERATIONS.items()
        for at in (torch, operator)
        if hasattr(at, name)
    },
    torch.relu_: _activation("relu"),
    F.gelu: _gelu,
    F.elu: _elu,
    F.leaky_relu: _leaky_relu,
    F.prelu: _prelu,
    torch.prelu: _prelu,
    F.hardtanh: _hardtanh,
    torch.clamp: _clamp,
    torch.pow: _power,
    operator.pow: _power,
    torch.square: _of_power(2),
    torch.rsqrt: _of_power(-0.5),
    torch.neg: _negative,
    torch.addcmul: _add_product,
    operator.neg: _negative,
}
METHODS: Mapping[str, Callable[[Call], Results]] = {
    **{name: _activation(function) for name, function in _SIMPLE.items()},
    **{name: _binary(operation) for name, operation in _OPERATIONS.items()},
    **{f"r{name}": _binary(operation, is_reflected=True) for name, operation in _OPERATIONS.items()},
    "clamp": _clamp,
    "clip": _clamp,
    "pow": _power,
    "square": _of_power(2),
    "rsqrt": _of_power(-0.5),
    "neg": _negative,
    "addcmul": _add_product,
    "expand": _expand,
    "expand_as": _expand,
}
