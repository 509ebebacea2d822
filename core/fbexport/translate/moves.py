"""What only moves numbers: reshapes, permutations, slices, concatenation, padding."""

import operator
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from fbexport.graph import Concat, Constant, Pad, Reshape, Slice, Transpose, Value
from fbexport.translate.call import Call, Results

_FLOATS = (torch.float32, None)


def reshape(call: Call, x: Value, shape: Sequence[int]) -> Value:
    """Add a reshape where the shape is another."""
    return x if x.shape == tuple(shape) else call.add(Reshape, [x], shape)


def at_rank(call: Call, value: Value, rank: int) -> Value:
    """Return a value with axes of size 1 put before the others, as broadcasting does."""
    shape = (1,) * (rank - len(value.shape)) + value.shape
    if isinstance(value, Constant):
        return Constant(value.name, shape, value.array.reshape(shape))
    return reshape(call, value, shape)


def permute(call: Call, x: Value, axes: Sequence[int]) -> Value:
    """Add a permutation where it moves something."""
    if list(axes) == sorted(axes):
        return x
    return call.add(Transpose, [x], [x.shape[axis] for axis in axes], axes=tuple(axes))


def cut(call: Call, x: Value, axis: int, start: int, stop: int, step: int = 1) -> Value:
    """Add a slice of one axis."""
    ranges = [slice(0, size) for size in x.shape]
    ranges[axis] = slice(start, stop, step)
    return _sliced(call, x, ranges)


def _sliced(call: Call, x: Value, ranges: Sequence[slice]) -> Value:
    """Add a slice where it leaves something out."""
    bounds = [each.indices(size) for each, size in zip(ranges, x.shape, strict=True)]
    shape = tuple(len(range(*each)) for each in bounds)
    if any(step < 1 for _, _, step in bounds) or 0 in shape:
        raise call.error(f"its slice of {x.shape} is empty, or runs backwards")
    if shape == x.shape:
        return x
    starts, stops, steps = zip(*bounds, strict=True)
    return call.add(Slice, [x], shape, starts=starts, stops=stops, steps=steps)


def _reshape_as_torch(function: Callable[..., Any]) -> Callable[[Call], Value]:
    def build(call: Call) -> Value:
        x = call.input
        return reshape(call, x, call.shape_by(function, x, *call.args[1:], **_rest(call)))

    return build


def _reshape_like(call: Call) -> Value:
    return reshape(call, call.input, call.args[1].shape)


def _permute_as_torch(function: Callable[..., Any]) -> Callable[[Call], Value]:
    """Return a translation that asks torch where each axis goes, of a tensor whose sizes tell its axes."""

    def build(call: Call) -> Value:
        x = call.input
        probe = Value("", tuple(range(2, 2 + len(x.shape))))
        moved = call.shape_by(function, probe, *call.args[1:], **_rest(call))
        return permute(call, x, [size - 2 for size in moved])

    return build


def _rest(call: Call) -> dict[str, Any]:
    return {name: value for name, value in call.options.items() if name != "input"}


def _attribute(call: Call) -> Value:
    if call.args[1] not in ("T", "mT", "H", "mH"):
        raise call.error(f"the attribute {call.args[1]!r} of a tensor is not known")
    rank = len(call.input.shape)
    return permute(call, call.input, [*range(rank - 2), rank - 1, rank - 2])


def _getitem(call: Call) -> Value:
    x, index = call.value(call.args[0]), call.args[1]
    given = list(index) if isinstance(index, tuple | list) else [index]
    if not all(each is None or each is Ellipsis or isinstance(each, int | slice) for each in given):
        raise call.error("only slices and numbers are known as an index")
    axes = sum(each is not None and each is not Ellipsis for each in given)
    if Ellipsis not in given:
        given.append(Ellipsis)
    at = given.index(Ellipsis)
    given[at : at + 1] = [slice(None)] * (len(x.shape) - axes)
    ranges, shape = [], []
    for size in x.shape:
        while given[0] is None:
            shape.append(1)
            given.pop(0)
        each = given.pop(0)
        if isinstance(each, int):
            if not -size <= each < size:
                raise call.error(f"its index {each} is outside of {x.shape}")
            ranges.append(slice(each % size, each % size + 1))
        else:
            ranges.append(each)
            shape.append(len(range(*each.indices(size))))
    shape += [1] * len(given)
    return reshape(call, _sliced(call, x, ranges), shape)


def _parts(function: Callable[..., Any]) -> Callable[[Call], Results]:
    """Return a translation of what torch cuts into parts along an axis."""

    def build(call: Call) -> Results:
        x, how, dim = call.bind(input=None, split_size_or_sections=None, dim=0)
        x = call.value(x)
        shapes = call.shape_by(function, x, how, dim)
        sizes = [shape[dim] for shape in shapes]
        ends = list(accumulate(sizes))
        return tuple(cut(call, x, dim % len(x.shape), end - size, end) for end, size in zip(ends, sizes, strict=True))

    return build


def _chunk(call: Call) -> Results:
    x, chunks, dim = call.bind(input=None, chunks=None, dim=0)
    return _parts(torch.chunk)(call.again(x, chunks, dim))


def _split(call: Call) -> Results:
    given = {"split_size_or_sections" if name == "split_size" else name: each for name, each in call.options.items()}
    return _parts(torch.split)(call.again(*call.args, **given))


def _unbind(call: Call) -> Results:
    x, dim = call.bind(input=None, dim=0)
    x = call.value(x)
    dim %= len(x.shape)
    shape = x.shape[:dim] + x.shape[dim + 1 :]
    return tuple(reshape(call, cut(call, x, dim, at, at + 1), shape) for at in range(x.shape[dim]))


def _narrow(call: Call) -> Value:
    x, dim, start, length = call.bind(input=None, dim=0, start=0, length=1)
    x = call.value(x)
    start %= x.shape[dim]
    return cut(call, x, dim % len(x.shape), start, start + length)


def _select(call: Call) -> Value:
    x, dim, index = call.bind(input=None, dim=0, index=0)
    x = call.value(x)
    dim %= len(x.shape)
    index %= x.shape[dim]
    return reshape(call, cut(call, x, dim, index, index + 1), x.shape[:dim] + x.shape[dim + 1 :])


def _concat(call: Call) -> Value:
    values, dim = call.bind(tensors=None, dim=0)
    values = [call.value(each) for each in values]
    return concat(call, values, dim)


def concat(call: Call, values: Sequence[Value], dim: int) -> Value:
    """Add a concatenation."""
    if len(values) == 1:
        return values[0]
    shape = call.shape_by(torch.cat, list(values), dim=dim)
    return call.add(Concat, values, shape, axis=dim % len(shape))


def _stack(call: Call) -> Value:
    values, dim = call.bind(tensors=None, dim=0)
    values = [call.value(each) for each in values]
    shape = call.shape_by(torch.stack, values, dim=dim)
    dim %= len(shape)
    alone = [reshape(call, value, (*shape[:dim], 1, *shape[dim + 1 :])) for value in values]
    return concat(call, alone, dim)


def _pad(call: Call) -> Value:
    x, amounts, mode, number = call.bind(input=None, pad=None, mode="constant", value=None)
    x = call.value(x)
    if mode != "constant":
        raise call.error(f"only padding with a number is known, not {mode!r}")
    pairs = [(amounts[at], amounts[at + 1]) for at in range(0, len(amounts), 2)][::-1]
    return pad(call, x, [(0, 0)] * (len(x.shape) - len(pairs)) + pairs, number or 0.0)


def pad(call: Call, x: Value, amounts: Sequence[tuple[int, int]], number: float = 0.0) -> Value:
    """Add padding; negative amounts are cut off."""
    cuts = [slice(max(-low, 0), size - max(-high, 0)) for size, (low, high) in zip(x.shape, amounts, strict=True)]
    x = _sliced(call, x, cuts)
    left = tuple((max(low, 0), max(high, 0)) for low, high in amounts)
    shape = [size + low + high for size, (low, high) in zip(x.shape, left, strict=True)]
    return x if x.shape == tuple(shape) else call.add(Pad, [x], shape, amounts=left, number=float(number))


def _pixel_shuffle(call: Call) -> Value:
    n, c, h, w = call.image()
    x, r = call.bind(input=None, upscale_factor=None)
    if c % r**2:
        raise call.error(f"{c} channels do not make squares of {r}x{r} pixels")
    apart = reshape(call, x, (n, c // r**2, r, r, h, w))
    return reshape(call, permute(call, apart, (0, 1, 4, 2, 5, 3)), (n, c // r**2, h * r, w * r))


def _pixel_unshuffle(call: Call) -> Value:
    n, c, h, w = call.image()
    x, r = call.bind(input=None, downscale_factor=None)
    if h % r or w % r:
        raise call.error(f"{h}x{w} pixels do not make squares of {r}x{r}")
    apart = reshape(call, x, (n, c, h // r, r, w // r, r))
    return reshape(call, permute(call, apart, (0, 1, 3, 5, 2, 4)), (n, c * r**2, h // r, w // r))


def _to(call: Call) -> Value:
    """Let only what stays float32 on the same device pass."""
    given = [*call.args[1:], *call.options.values()]
    if any(isinstance(each, torch.dtype) and each not in _FLOATS for each in given):
        raise call.error("it converts to another type than float32")
    return call.input


_RESHAPES: Mapping[str, Callable[..., Any]] = {
    name: getattr(Tensor, name) for name in ("reshape", "view", "flatten", "unflatten", "squeeze", "unsqueeze")
}
_PERMUTES: Mapping[str, Callable[..., Any]] = {
    name: getattr(Tensor, name) for name in ("permute", "transpose", "swapaxes", "swapdims", "movedim", "moveaxis", "t")
}
_PARTS: Mapping[str, Callable[[Call], Results]] = {
    "chunk": _chunk, "split": _split, "unbind": _unbind, "narrow": _narrow, "select": _select,
}  # fmt: skip
FUNCTIONS: Mapping[object, Callable[[Call], Results]] = {
    **{getattr(torch, name): _reshape_as_torch(f) for name, f in _RESHAPES.items() if hasattr(torch, name)},
    **{getattr(torch, name): _permute_as_torch(f) for name, f in _PERMUTES.items() if hasattr(torch, name)},
    **{getattr(torch, name): part for name, part in _PARTS.items() if hasattr(torch, name)},
    torch.cat: _concat,
    torch.concat: _concat,
    torch.stack: _stack,
    F.pad: _pad,
    F.pixel_shuffle: _pixel_shuffle,
    F.pixel_unshuffle: _pixel_unshuffle,
    operator.getitem: _getitem,
    getattr: _attribute,
}
METHODS: Mapping[str, Callable[[Call], Results]] = {
    **{name: _reshape_as_torch(function) for name, function in _RESHAPES.items()},
    **{name: _permute_as_torch(function) for name, function in _PERMUTES.items()},
    **_PARTS,
    "view_as": _reshape_like,
    "reshape_as": _reshape_like,
    "getitem": _getitem,
    "to": _to,
    "type": _to,
    "type_as": _to,
}
