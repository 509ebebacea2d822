"""An ExecuTorch program as it is put together: its tensors, and what moves numbers without changing them."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fbexport.formats import unknown_operator
from fbexport.formats._layout import NHWC, Layout, Order, usual
from fbexport.formats._pte_xnnpack import Delegate
from fbexport.graph import Array, Concat, Expand, Pad, Resize, Slice, Value
from fbexport.quantization.quantized import QuantizedGraph
from fbexport.quantization.scheme import Quantization, of_array

Shape = tuple[int, ...]
Bounds = tuple[float, float]
MOST_AXES = 6
_BINARY = {
    "add": "Add", "mul": "Multiply", "sub": "Subtract", "div": "Div", "maximum": "Maximum", "minimum": "Minimum",
    "prelu": "PReLU",
}  # fmt: skip
_MOST_JOINED = 5
_ALIGN_CORNERS = 8


class PteModel(Layout):
    """Collects the tensors and nodes of a delegate."""

    def __init__(self, quantized: QuantizedGraph | None) -> None:
        super().__init__(quantized)
        self.delegate = Delegate()

    def begin(self, value: Value) -> None:
        """Add the input, converted where the network computes in integers."""
        order = usual(value.shape)
        source = self.delegate.input(tuple(value.shape[axis] for axis in order))
        if self.quantized is None:
            self.put(value, order, source)
        else:
            self.unary("Convert", source, self.value(value))

    def end(self, value: Value) -> None:
        """Make a value an output, converted back; what is one already, or the input, is copied."""
        number = self.read(value, usual(value.shape))
        if self.quantized is not None:
            number = self.unary("Convert", number, self.delegate.tensor(self.shape(number)))
        elif self.delegate.tensors[number].flags:
            number = self.reshape(number, self.like(number))
        self.delegate.output(number)

    def made(self, value: Value, shape: Shape) -> int:
        """Add the tensor of a value."""
        return self.delegate.tensor(shape, None if self.quantized is None else self.quantized.of(value))

    def known(self, array: Array, scheme: Quantization | None = None) -> int:
        """Add a constant; its int8 numbers are of its own range unless told."""
        if self.quantized is None:
            return self.delegate.operand(array, None)
        scheme = scheme or of_array(array)
        return self.delegate.operand(scheme.quantize(array), scheme)

    def single(self, number: float) -> int:
        """Add a constant of one number."""
        return self.known(np.array([number], np.float32))

    def like(self, source: int, shape: Shape | None = None) -> int:
        """Add a tensor for the same kind of numbers as another's."""
        return self.delegate.like(source, self.shape(source) if shape is None else shape)

    def shape(self, number: int) -> Shape:
        """Return a tensor's shape."""
        return self.delegate.tensors[number].shape

    def scheme(self, number: int) -> Any:
        """Return what a tensor's int8 numbers stand for."""
        return self.delegate.tensors[number].scheme

    def unary(self, kind: str, source: int, output: int | None = None, **fields: Any) -> int:
        """Append a node with one input; without an output its result is one like the input."""
        output = self.like(source) if output is None else output
        return self.delegate.emit(kind, output, input_id=source, **fields)

    def step(self, kind: str, first: int, second: int, output: int | None = None, bounds: Bounds | None = None) -> int:
        """Append an operation on two tensors, its result within bounds; without an output it is one like the first."""
        output = self.like(first) if output is None else output
        return self.delegate.emit(_BINARY[kind], output, bounds, input1_id=first, input2_id=second)

    def reshape(self, source: int, output: int) -> int:
        """Append a reshape."""
        shape = self.shape(output)
        return self.unary("StaticReshape", source, output, num_dims=len(shape), new_shape=shape)

    def shaped(self, source: int, shape: Shape) -> int:
        """Return a tensor in another shape."""
        return source if self.shape(source) == shape else self.reshape(source, self.like(source, shape))

    def turn(self, source: int, axes: Order, output: int) -> int:
        """Append a transposition."""
        return self.unary("StaticTranspose", source, output, num_dims=len(axes), perm=axes)

    def requantized(self, source: int, other: int) -> int:
        """Return a tensor in the numbers of another."""
        if self.scheme(source) == self.scheme(other):
            return source
        return self.unary("Convert", source, self.like(other, self.shape(source)))

    def pad(self, node: Pad) -> None:
        """Append padding with a number."""
        source, order = self.lying(node.inputs[0])
        before, after = zip(*(node.amounts[axis] for axis in order), strict=True)
        self.padded(source, before, after, node.number, self.value(node.output, order))

    def padded(self, source: int, before: Shape, after: Shape, number: float, output: int) -> int:
        """Append padding with a number, so many before and after each axis."""
        fields = {"pre_paddings": before, "post_paddings": after, "padding_value": float(number)}
        return self.unary("StaticConstantPad", source, output, **fields)

    def concat(self, node: Concat) -> None:
        """Append a concatenation, of five at once and then of these; in int8 all have the numbers of the output."""
        parts, output, order = self.joined(node)
        axis = order.index(node.axis)
        parts = [self.requantized(part, output) for part in parts]
        while len(parts) > _MOST_JOINED:
            groups = [parts[at : at + _MOST_JOINED] for at in range(0, len(parts), _MOST_JOINED)]
            parts = [self.join(group, axis) for group in groups]
        self.join(parts, axis, output)

    def join(self, parts: Sequence[int], axis: int, output: int | None = None) -> int:
        """Append the concatenation of up to five tensors; without an output, one alone is left as it is."""
        if output is None:
            shape = self.shape(parts[0])
            size = sum(self.shape(part)[axis] for part in parts)
            output = self.like(parts[0], (*shape[:axis], size, *shape[axis + 1 :]))
        if len(parts) == 1:
            return self.reshape(parts[0], output)
        inputs: dict[str, Any] = {f"input{at}_id": part for at, part in enumerate(parts, start=1)}
        return self.delegate.emit(f"Concatenate{len(parts)}", output, axis=axis, **inputs)

    def slice(self, node: Slice) -> None:
        """Append a slice."""
        source, order = self.lying(node.inputs[0])
        begin, steps = (tuple(each[axis] for axis in order) for each in (node.starts, node.steps))
        output = self.value(node.output, order)
        if len(order) + sum(step > 1 for step in steps) > MOST_AXES:
            raise unknown_operator("pte", node)
        self.sliced(source, begin, steps, output)

    def sliced(self, source: int, begin: Shape, steps: Shape, output: int) -> int:
        """Append a slice. XNNPACK has none with steps: such an axis is split in two, of which one place is taken."""
        sizes, counts = self.shape(source), self.shape(output)
        spans = tuple(count * step for count, step in zip(counts, steps, strict=True))
        lack = tuple(max(span - size, 0) for span, size in zip(spans, sizes, strict=True))
        if any(lack):
            whole = self.like(source, tuple(map(sum, zip(sizes, lack, strict=True))))
            source = self.padded(source, (0,) * len(lack), lack, 0.0, whole)
        # A window of all steps, which may begin before the first of them where it would reach beyond the end.
        starts = tuple(min(at, size - span) for at, size, span in zip(begin, self.shape(source), spans, strict=True))
        if all(step == 1 for step in steps):
            return self.cut(source, starts, output)
        window = self.cut(source, starts, self.like(source, spans))
        split, places, chosen = [], [], []
        for at, start, count, step in zip(begin, starts, counts, steps, strict=True):
            split += [count] if step == 1 else [count, step]
            places += [0] if step == 1 else [0, at - start]
            chosen += [count] if step == 1 else [count, 1]
        apart = self.shaped(window, tuple(split))
        return self.reshape(self.cut(apart, tuple(places), self.like(apart, tuple(chosen))), output)

    def cut(self, source: int, begin: Shape, output: int) -> int:
        """Append a slice without steps."""
        sizes = self.shape(output)
        return self.unary("StaticSlice", source, output, num_dims=len(sizes), offsets=begin, sizes=sizes)

    def expand(self, node: Expand) -> None:
        """Append the repetition of axes of size 1."""
        source, order = self.lying(node.inputs[0])
        self.repeated(source, self.value(node.output, order))

    def repeated(self, source: int, output: int) -> int:
        """Append a sum with zeros, which repeats what has size 1."""
        sizes = zip(self.shape(source), self.shape(output), strict=True)
        zeros = np.zeros([1 if old == new else new for old, new in sizes], np.float32)
        return self.step("add", source, self.known(zeros, self.scheme(source)), output)

    def resize(self, node: Resize) -> None:
        """Append a resize; the nearest pixels are repeated or left out, and only by whole numbers."""
        (n, c, h, w), (height, width) = node.inputs[0].shape, node.output.shape[2:]
        source, output = self.ends(node, NHWC)
        if node.mode == "bilinear":
            flags = _ALIGN_CORNERS if node.align_corners else 0
            self.unary("StaticResizeBilinear2D", source, output, new_height=height, new_width=width, flags=flags)
        elif not (h % height or w % width):
            self.sliced(source, (0, 0, 0, 0), (1, h // height, w // width, 1), output)
        elif height % h or width % w:
            raise unknown_operator("pte", node)
        else:
            apart = self.shaped(source, (n * h, 1, w, 1, c))
            rows = self.like(source, (n * h, height // h, w, width // w, c))
            self.reshape(self.repeated(apart, rows), output)
