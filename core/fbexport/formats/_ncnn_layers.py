"""Operators of ncnn models without weights in reduced precision; axes are those of values without N."""

import math
from collections.abc import Sequence
from itertools import pairwise, permutations

import numpy as np

from fbexport.formats._ncnn_model import Dims, NcnnModel, Params, array_of, untagged
from fbexport.graph import (
    Activation,
    Binary,
    Concat,
    Constant,
    Expand,
    Function,
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
)  # fmt: skip

SIXTH = "0.16666667"
_LARGEST = float(np.finfo(np.float32).max)
_FUNCTIONS: dict[Function, tuple[str, Params]] = {
    "relu": ("ReLU", []),
    "relu6": ("Clip", [(0, "0.0"), (1, "6.0")]),
    "hswish": ("HardSwish", [(0, SIXTH), (1, "0.5")]),
    "hsigmoid": ("HardSigmoid", [(0, SIXTH), (1, "0.5")]),
    "sigmoid": ("Sigmoid", []),
    "tanh": ("TanH", []),
    "silu": ("Swish", []),
    "gelu": ("GELU", []),
    "gelu_tanh": ("GELU", [(0, 1)]),
    "elu": ("ELU", []),
    "leaky_relu": ("ReLU", []),
    "clamp": ("Clip", []),
    "abs": ("UnaryOp", [(0, 0)]),
    "sqrt": ("UnaryOp", [(0, 5)]),
    "exp": ("UnaryOp", [(0, 7)]),
}
_OPERATIONS = {"add": 0, "sub": 1, "mul": 2, "div": 3, "maximum": 4, "minimum": 5}
_TURNED = {"sub": 7, "div": 8}
"""Those with the operands the other way round."""
_REDUCTIONS = {"sum": 0, "mean": 3, "max": 4}


class Layers(NcnnModel):
    """Writes what has no weights in the model's precision."""

    def more(self, node: Node) -> None:
        """Append the layers of one operator. Raises UnknownOperatorError where there are none."""
        source = node.inputs[0]
        match node:
            case Activation():
                kind, params = _FUNCTIONS[node.function]
                given = [(key, repr(each)) for key, each in enumerate(node.parameters) if math.isfinite(each)]
                self.put(self.step(kind, [self.places[source]], self.lying(source), [*params, *given]))
            case Binary():
                self.operation(node)
            case Shuffle():
                self.put(self.step("ShuffleChannel", [self.read(source)], self.dims(source), [(0, node.groups)]))
            case Mean() if self.lying(source) == self.dims(source)[:1]:  # there is one pixel: it is its own mean
                self.put(self.places[source])
            case Mean():
                self.put(self.step("Pooling", [self.read(source)], self.dims(source)[:1], [(0, 1), (4, 1)]))
            case MatMul():
                dims = self.dims(node.output)
                self.put(self.step("MatMul", [self.read(each) for each in node.inputs], dims))
            case Softmax():
                dims, (at,), blob = self.along(node, [node.axis])
                self.put(self.step("Softmax", [blob], dims, [(0, at), (1, 1)]))
            case Reduce():
                self.reduce(node)
            case Norm():
                self.norm(node)
            case Pool():
                self.pool(node)
            case Resize():
                self.resize(node)
            case Pad():
                self.pad(node)
            case Concat():
                self.concat(node)
            case Slice():
                self.slice(node)
            case Reshape():
                self.put(self.places[source])
            case Transpose():
                self.transpose(node)
            case Expand():
                self.expand(node)
            case _:
                raise self.refusal()

    def operation(self, node: Binary) -> None:
        """Append an operation on two values, on a value and a number, or PReLU."""
        code = _OPERATIONS.get(node.operation)
        if code is None:
            self.prelu(node)
            return
        for known, other, own in zip(
            node.inputs, node.inputs[::-1], (_TURNED.get(node.operation, code), code), strict=True
        ):
            if isinstance(known, Constant) and known.array.size == 1 and other.shape == node.output.shape:
                params = [(0, own), (1, 1), (2, repr(known.array.item()))]
                self.put(self.step("BinaryOp", [self.places[other]], self.lying(other), params))
                return
        every, places = [self.dims(each) for each in node.inputs], [self.places.get(each, "") for each in node.inputs]
        lying = [self.blobs.get(place, ()) for place in places]
        dims = max(lying, key=len)
        if not _fits(lying, every):
            groups = self.grouped([(a == 1, b == 1) for a, b in zip(*every, strict=True)])
            places = [self.read(each, joined(own, groups)) for each, own in zip(node.inputs, every, strict=True)]
            dims = joined(self.dims(node.output), groups)
        self.put(self.step("BinaryOp", places, dims, [(0, code)]))

    def prelu(self, node: Binary) -> None:
        """Append PReLU, whose slope is one, or one for each channel."""
        source, slope = node.inputs
        channels, *rest = self.dims(source)
        if not isinstance(slope, Constant) or slope.array.size not in (1, self.dims(slope)[0]):
            raise self.refusal()
        dims = (channels, *rest) if len(rest) < 3 else (channels, math.prod(rest))
        params = [(0, slope.array.size)]
        self.put(self.step("PReLU", [self.read(source, dims)], dims, params, untagged(slope.array)))

    def along(self, node: Node, axes: Sequence[int]) -> tuple[Dims, list[int], str]:
        """Return the first input with few enough sides, which of these are the axes, and the blob that lies so."""
        own, axes = self.dims(node.inputs[0]), [self.axis(node.inputs[0], axis) for axis in axes]
        groups = self.grouped([axis in axes for axis in range(len(own))])
        dims = joined(own, groups)
        return dims, [at for at, group in enumerate(groups) if group[0] in axes], self.read(node.inputs[0], dims)

    def reduce(self, node: Reduce) -> None:
        """Append a mean, a sum or a maximum."""
        dims, axes, source = self.along(node, node.axes)
        params = [(0, _REDUCTIONS[node.operation]), (1, 0), (-23303, array_of(*axes)), (4, int(node.keep_dims)), (5, 1)]
        if node.keep_dims:
            left = [1 if at in axes else size for at, size in enumerate(dims)]
        else:
            left = [size for at, size in enumerate(dims) if at not in axes] or [1]
        self.put(self.step("Reduction", [source], left, params))

    def norm(self, node: Norm) -> None:
        """Append a normalisation over the last axes: of groups of channels, or else as LayerNorm has it."""
        source = node.inputs[0]
        dims, first = self.dims(source), self.axis(source, min(node.axes))
        if len(node.axes) != len(dims) - first:
            raise self.refusal()
        known = [
            each.reshape(self.without(source, each.shape)) for each in (node.weight, node.bias) if each is not None
        ]
        weight = known[0] if node.weight is not None else 1.0
        own = [np.broadcast_to(each, dims) for each in (weight, 0.0 if node.bias is None else known[-1])]
        varied = {axis for each in known for axis, size in enumerate(each.shape) if size > 1}
        groups, epsilon = math.prod(dims[:first]), repr(node.epsilon)
        if first < 2 <= len(dims) and 0 in varied and max(varied) <= first:
            at = max(varied) + 1  # the axes before are channels
            channels = math.prod(dims[:at])
            lying = (channels, *dims[at:]) if len(dims) - at < 4 else (channels, math.prod(dims[at:]))
            weights = untagged(*(each.reshape(channels, -1)[:, 0] for each in own))
            params = [(0, groups), (1, channels), (2, epsilon)]
            self.put(self.step("GroupNorm", [self.read(source, lying)], lying, params, weights))
            return
        inner, is_within = math.prod(dims[first:]), min(varied, default=first) >= first
        lying = dims if first == len(dims) - 1 and first in (1, 2) else (groups, inner)
        weights = untagged(*(each.reshape(groups, -1)[0] for each in own if is_within and known))
        params = [(0, inner), (1, epsilon), (2, int(weights != b""))]
        blob = self.step("LayerNorm", [self.read(source, lying)], lying, params, weights)
        for code, each in () if is_within else zip((2, 0), own, strict=True):
            numbers = self.constant(f"{node.output.name}.{code}", each.reshape(lying))
            blob = self.step("BinaryOp", [blob, numbers], lying, [(0, code)])
        self.put(blob)

    def pool(self, node: Pool) -> None:
        """Append pooling."""
        if node.dilation != (1, 1):
            raise self.refusal()
        (kh, kw), (sh, sw), (top, left, bottom, right) = node.kernel, node.stride, node.padding
        around = [(3, left), (14, right), (13, top), (15, bottom), (5, 1)]
        params = [(0, int(node.operation == "average")), (1, kw), (11, kh), (2, sw), (12, sh), *around]
        self.put(self.step("Pooling", [self.read(node.inputs[0])], self.dims(node.output), params))

    def resize(self, node: Resize) -> None:
        """Append a resize; of a single pixel it is the same in either way."""
        (_, *size), (_, height, width) = self.dims(node.inputs[0]), self.dims(node.output)
        is_nearest = node.mode == "nearest" or size == [1, 1]
        if not is_nearest and 1 in size:  # ncnn reads a second row or column
            raise self.refusal()
        params = [(0, 1 if is_nearest else 2), (3, height), (4, width), (6, int(node.align_corners))]
        self.put(self.step("Interp", [self.read(node.inputs[0])], self.dims(node.output), params))

    def pad(self, node: Pad) -> None:
        """Append padding."""
        amounts = self.without(node.output, node.amounts)
        groups = self.grouped([axis if any(each) else None for axis, each in enumerate(amounts)])
        ends = [amounts[group[0]] for group in groups][::-1]  # of w, h and c, or w, h, d and c
        if any(map(any, ends[3:])):
            raise self.refusal()
        keys = [key for pair in ((2, 3), (0, 1), (7, 8)) for key in pair]
        params = [*zip(keys, (each for pair in ends for each in pair), strict=False), (5, repr(node.number))]
        source = self.read(node.inputs[0], joined(self.dims(node.inputs[0]), groups))
        self.put(self.step("Padding", [source], joined(self.dims(node.output), groups), params))

    def concat(self, node: Concat) -> None:
        """Append a concatenation."""
        axis = self.axis(node.output, node.axis)
        groups = self.grouped([each == axis for each in range(len(self.dims(node.output)))])
        sources = [self.read(each, joined(self.dims(each), groups)) for each in node.inputs]
        at = next(at for at, group in enumerate(groups) if axis in group)
        self.put(self.step("Concat", sources, joined(self.dims(node.output), groups), [(0, at)]))

    def slice(self, node: Slice) -> None:
        """Append a slice; one in steps is then pooled by windows of one pixel, which are as far apart."""
        own, made = self.dims(node.inputs[0]), self.dims(node.output)
        every = [self.without(node.output, each) for each in (node.starts, node.steps)]
        changed = [a != b or step > 1 for a, b, step in zip(own, made, every[1], strict=True)]
        groups = self.grouped([axis if each else None for axis, each in enumerate(changed)])
        starts, steps = ([each[group[0]] for group in groups] for each in every)
        sizes, dims = joined(made, groups), joined(own, groups)
        ends = [start + (size - 1) * step + 1 for start, step, size in zip(starts, steps, sizes, strict=True)]
        blob, left = (
            self.read(node.inputs[0], dims),
            tuple(end - start for start, end in zip(starts, ends, strict=True)),
        )
        if left != dims:
            blob = self.step("Crop", [blob], left, [(-23309, array_of(*starts)), (-23310, array_of(*ends))])
        for at, step in enumerate(steps):
            if step > 1:
                before, after = math.prod(sizes[:at]), math.prod(left[at + 1 :])
                source = self.reshape(blob, (before, left[at], after))
                blob = self.step(
                    "Pooling", [source], (before, sizes[at], after), [(0, 0), (1, 1), (2, 1), (12, step), (5, 1)]
                )
        self.put(blob)

    def transpose(self, node: Transpose) -> None:
        """Append a permutation, of axes that stay beside each other as one; of five and more in steps."""
        source, own = node.inputs[0], self.dims(node.inputs[0])
        order = [self.axis(source, axis) for axis in node.axes if axis != self.batch[source]]
        if order == [0, 3, 1, 4, 2] and own[1] == own[2]:
            c, r, _, h, w = own
            self.put(self.step("PixelShuffle", [self.read(source, (c * r * r, h, w))], (c, h * r, w * r), [(0, r)]))
            return
        order = [axis for axis in order if own[axis] > 1]
        follows = dict(pairwise(sorted(order)))
        parts: list[list[int]] = []
        for axis in order:
            if parts and follows.get(parts[-1][-1]) == axis:
                parts[-1].append(axis)
            else:
                parts.append([axis])
        blob, held = self.places[source], sorted(parts)
        for at in range(len(parts) if len(parts) > 4 else 0):  # one goes before those that stand there
            now = held.index(parts[at])
            if now > at:
                blocks = [range(at), range(at, now), [now], range(now + 1, len(held))]
                blob = self.permuted(blob, joined(joined(own, held), blocks), [0, 2, 1, 3])
                held.insert(at, held.pop(now))
        if held != parts:
            blob = self.permuted(blob, joined(own, held), [held.index(part) for part in parts])
        self.put(blob)

    def permuted(self, blob: str, dims: Dims, order: Sequence[int]) -> str:
        """Append a permutation, and return what it makes."""
        kind = list(permutations(range(len(dims)))).index(tuple(order))
        return self.step("Permute", [self.reshape(blob, dims)], [dims[axis] for axis in order], [(0, kind)])

    def expand(self, node: Expand) -> None:
        """Append repetitions."""
        own, made = self.dims(node.inputs[0]), self.dims(node.output)
        groups = self.grouped([a == b for a, b in zip(own, made, strict=True)])
        dims, larger = joined(own, groups), joined(made, groups)
        repeats = [new // old for new, old in zip(larger, dims, strict=True)]
        self.put(self.step("Tile", [self.read(node.inputs[0], dims)], larger, [(-23302, array_of(*repeats))]))


def joined(dims: Sequence[int], groups: Sequence[Sequence[int]]) -> Dims:
    """Return the sides of groups of axes."""
    return tuple(math.prod(dims[axis] for axis in group) for group in groups)


def _fits(lying: Sequence[Dims], dims: Sequence[Dims]) -> bool:
    """Whether two blobs can be taken as they lie: alike, or the channels of one pixel and an image."""
    if lying[0] == lying[1] and dims[0] == dims[1]:
        return True
    (flat, single), (image, own) = sorted(zip(lying, dims, strict=True), key=lambda each: len(each[0]))
    return len(flat) == 1 and single == (*flat, 1, 1) and image == own and len(own) == 3 and own[:1] == flat
