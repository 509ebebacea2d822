"""In which order the axes of values lie in files whose values of four axes are N, H, W, C unless an operator says else.

All others lie as in torch. A permutation writes nothing: the value remembers in which order its axes lie, and is turned
where somebody reads it in another order.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence

from fbexport.graph import Array, Constant, Node, Norm, Reshape, Transpose, Value
from fbexport.quantization.quantized import QuantizedGraph
from fbexport.quantization.scheme import Quantization

Order = tuple[int, ...]
"""For each axis of a tensor in the file, which of torch's it is."""
NHWC: Order = (0, 2, 3, 1)


def usual(shape: Sequence[int]) -> Order:
    """Return how a value lies unless something else is said."""
    return NHWC if len(shape) == 4 else tuple(range(len(shape)))


def regrouped(before: Sequence[int], after: Sequence[int], held: Order) -> Order | None:
    """Return how a value that is reshaped lies without being turned before; None where it must be.

    `held` is how it lies. Axes of the old and the new shape fall into groups of the same product; those of each group
    must lie one after the other. Axes of size 1 may lie anywhere.
    """
    old, new = ([axis for axis, size in enumerate(shape) if size != 1] for shape in (before, after))
    groups: dict[int, tuple[list[int], list[int]]] = {}
    while old:
        mine, others = [old.pop(0)], []
        left, right = before[mine[0]], 1
        while left != right:
            if left < right:
                mine.append(old.pop(0))
                left *= before[mine[-1]]
            else:
                others.append(new.pop(0))
                right *= after[others[-1]]
        groups[mine[0]] = mine, others
    stored, made = [axis for axis in held if before[axis] != 1], []
    while stored:
        mine, others = groups.get(stored[0], ([], []))
        if not mine or stored[: len(mine)] != mine:
            return None
        made += others
        stored = stored[len(mine) :]
    for order in (usual(after), tuple(range(len(after)))):
        if [axis for axis in order if after[axis] != 1] == made:
            return order
    return (*(axis for axis, size in enumerate(after) if size == 1), *made)


class Layout(ABC):
    """Knows which tensors of a file a graph's values are; what it returns are numbers of tensors.

    `quantized` is what int8 numbers stand for.
    """

    def __init__(self, quantized: QuantizedGraph | None) -> None:
        self.quantized = quantized
        self.orders: dict[str, Order] = {}
        self.numbers: dict[tuple[str, Order], int] = {}

    @abstractmethod
    def made(self, value: Value, shape: tuple[int, ...]) -> int:
        """Add a tensor for a value, of its shape as it lies."""

    @abstractmethod
    def known(self, array: Array, scheme: Quantization | None = None) -> int:
        """Add a constant that takes part in the computation; its int8 numbers are of its own range unless told."""

    @abstractmethod
    def like(self, source: int, shape: tuple[int, ...] | None = None) -> int:
        """Add a tensor for the same kind of numbers as another's, of another shape if one is given."""

    @abstractmethod
    def shape(self, number: int) -> tuple[int, ...]:
        """Return a tensor's shape."""

    @abstractmethod
    def reshape(self, source: int, output: int) -> int:
        """Append a reshape to the shape of `output`, and return that."""

    @abstractmethod
    def turn(self, source: int, axes: Order, output: int) -> int:
        """Append a transposition, and return its output."""

    @abstractmethod
    def step(self, kind: str, first: int, second: int, output: int | None = None) -> int:
        """Append an operation of the graph on two tensors; without an output its result is one like the first."""

    def value(self, value: Value, order: Order | None = None) -> int:
        """Add the tensor of a value, its axes in an order."""
        order = order or usual(value.shape)
        number = self.made(value, tuple(value.shape[axis] for axis in order))
        self.put(value, order, number)
        return number

    def put(self, value: Value, order: Order, number: int) -> None:
        """Say which tensor a value is."""
        self.orders[value.name] = order
        self.numbers[value.name, order] = number

    def order(self, value: Value) -> Order:
        """Return how a value lies; constants lie as they are asked for."""
        return self.orders.get(value.name, usual(value.shape))

    def read(self, value: Value, order: Order | None = None) -> int:
        """Return the tensor of a value with its axes in an order, turned once where they lie in another."""
        order = order or self.order(value)
        if (value.name, order) in self.numbers:
            return self.numbers[value.name, order]
        if isinstance(value, Constant):
            scheme = None if self.quantized is None else self.quantized.of(value)
            number = self.known(value.array.transpose(order), scheme)
        else:
            held = self.orders[value.name]
            source = self.numbers[value.name, held]
            target = self.like(source, tuple(value.shape[axis] for axis in order))
            long = [[axis for axis in each if value.shape[axis] != 1] for each in (held, order)]
            if long[0] == long[1]:
                number = self.reshape(source, target)
            else:
                number = self.turn(source, tuple(held.index(axis) for axis in order), target)
        self.numbers[value.name, order] = number
        return number

    def lying(self, value: Value) -> tuple[int, Order]:
        """Return a value's tensor as it lies, and in which order that is."""
        return self.read(value), self.order(value)

    def along(self, value: Value, axis: int) -> tuple[int, Order]:
        """Return a value's tensor with an axis as its last, and in which order that is."""
        held = self.order(value)
        order = held if held[-1] == axis else (*(each for each in held if each != axis), axis)
        return self.read(value, order), order

    def ends(self, node: Node, order: Order | None = None) -> tuple[int, int]:
        """Return what goes in and what comes out, both in an order or as the input lies."""
        order = order or self.order(node.inputs[0])
        return self.read(node.inputs[0], order), self.value(node.output, order)

    def joined(self, node: Node) -> tuple[list[int], int, Order]:
        """Return what goes in, what comes out, and the order of all: that in which the largest input lies."""
        order = self.order(max(node.inputs, key=lambda value: (value.name in self.orders, math.prod(value.shape))))
        return [self.read(value, order) for value in node.inputs], self.value(node.output, order), order

    def matrices(self, node: Node, may_turn: Sequence[bool]) -> tuple[list[int], list[bool]]:
        """Return what goes in, and which of them lie with their last two axes swapped, where they may."""
        rank, inputs, swapped = len(node.output.shape), [], []
        plain = tuple(range(rank))
        turned = (*plain[:-2], rank - 1, rank - 2)
        for value, may in zip(node.inputs, may_turn, strict=True):
            is_turned = may and value.name in self.orders and self.order(value) == turned
            inputs.append(self.read(value, turned if is_turned else plain))
            swapped.append(is_turned)
        return inputs, swapped

    def normalized(self, node: Norm, apart: int, factor: int, order: Order, output: int) -> None:
        """Append the last steps of a normalisation: what is apart from the mean times a factor, weight, and bias."""
        parts = [("mul", factor)]
        for kind, array in (("mul", node.weight), ("add", node.bias)):
            if array is not None:
                parts.append((kind, self.known(array.transpose(order))))
        *before, (kind, part) = parts
        for each, number in before:
            apart = self.step(each, apart, number)
        self.step(kind, apart, part, output)

    def permuted(self, node: Transpose) -> None:
        """Say in which order a permuted value lies."""
        held, number = self.order(node.inputs[0]), self.read(node.inputs[0])
        self.put(node.output, tuple(node.axes.index(axis) for axis in held), number)

    def reshaped(self, node: Reshape) -> None:
        """Append a reshape, without turning the value before where its axes are split and joined as they lie."""
        value, output = node.inputs[0], node.output
        order = regrouped(value.shape, output.shape, self.order(value))
        source = self.read(value)
        if order is None:
            plain = tuple(range(len(value.shape)))
            source = self.read(value, plain)
            order = regrouped(value.shape, output.shape, plain)
            assert order is not None
        self.reshape(source, self.value(output, order))


def without(order: Order, axes: Collection[int]) -> Order:
    """Return how a value lies of which axes are taken away."""
    left = [axis for axis in sorted(order) if axis not in axes]
    return tuple(left.index(axis) for axis in order if axis in left)
