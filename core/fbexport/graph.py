"""Graph: a network between torch and a model file, of a score of operators that formats write.

Axes and shapes are torch's, N, C, H, W, whatever layout a format has. The first six kinds of operators every format can
write; docs/extend/operators.md has a table of the others.
"""

from dataclasses import dataclass, field
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray

Function = Literal[
    "relu", "relu6", "hswish", "hsigmoid", "sigmoid", "tanh", "silu", "gelu", "gelu_tanh", "elu", "leaky_relu", "clamp",
    "exp", "sqrt", "abs",
]  # fmt: skip
Operation = Literal["add", "mul", "sub", "div", "maximum", "minimum", "prelu"]
Array = NDArray[np.float32]
Shape = tuple[int, ...]
Shapes = Shape | tuple[Shape, ...]
"""The shape of the one input, or one for each."""


def shapes_of(shapes: Shapes) -> tuple[Shape, ...]:
    """Return a shape for each input."""
    return tuple(each for each in shapes if isinstance(each, tuple)) or (cast("Shape", shapes),)


@dataclass(frozen=True, slots=True)
class Value:
    """A tensor that flows between operators: float32, often of shape N, C, H, W. Names are unique in a graph."""

    name: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Constant(Value):
    """A value that is known beforehand."""

    array: Array = field(compare=False)


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """An operator: what goes in, what comes out, and the path of the module it came from (for error messages)."""

    inputs: tuple[Value, ...]
    output: Value
    source: str


@dataclass(frozen=True, slots=True, eq=False)
class Conv(Node):
    """2-D convolution, grouped or depthwise, then ReLU or ReLU6 if `activation` says so.

    `weight` is O, I/groups, kh, kw and `bias` is O, as in torch; `stride`, `padding` and `dilation` are (height,
    width), and the padding is the same on both sides.
    """

    weight: Array
    bias: Array
    stride: tuple[int, int]
    padding: tuple[int, int]
    groups: int
    activation: Literal["none", "relu", "relu6"] = "none"
    dilation: tuple[int, int] = (1, 1)

    @property
    def is_depthwise(self) -> bool:
        """Whether every input channel is filtered by itself."""
        return self.groups > 1 and self.weight.shape[1] == 1


@dataclass(frozen=True, slots=True, eq=False)
class Linear(Node):
    """Fully connected layer over the last axis: …, I → …, O with `weight` O, I and `bias` O."""

    weight: Array
    bias: Array


@dataclass(frozen=True, slots=True, eq=False)
class Activation(Node):
    """A function applied to every element; those that follow a convolution are part of it where `Conv` allows.

    `parameters` are ELU's alpha, leaky ReLU's slope, or the bounds of a clamp.
    """

    function: Function
    parameters: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Binary(Node):
    """An operation on two values of the same rank, broadcast (N, C, H, W with N, C, 1, 1).

    `prelu` takes the slope below 0 from the second.
    """

    operation: Operation


@dataclass(frozen=True, slots=True, eq=False)
class Shuffle(Node):
    """Channel shuffle: N, groups·c, H, W → N, c·groups, H, W."""

    groups: int


@dataclass(frozen=True, slots=True, eq=False)
class Mean(Node):
    """Mean over all pixels: N, C, H, W → N, C, 1, 1 if `keep_dims`, else N, C."""

    keep_dims: bool


# What follows are kinds that not every format has.


@dataclass(frozen=True, slots=True, eq=False)
class ConvTranspose(Node):
    """Transposed 2-D convolution: `weight` is I, O/groups, kh, kw; `padding` is cut off, `extra` put on at the end."""

    weight: Array
    bias: Array
    stride: tuple[int, int]
    padding: tuple[int, int]
    extra: tuple[int, int]
    dilation: tuple[int, int]
    groups: int


@dataclass(frozen=True, slots=True, eq=False)
class MatMul(Node):
    """Product of matrices: …, M, K and …, K, N of the same rank → …, M, N; what is before them is broadcast."""


@dataclass(frozen=True, slots=True, eq=False)
class Softmax(Node):
    """Softmax over an axis."""

    axis: int


@dataclass(frozen=True, slots=True, eq=False)
class Reduce(Node):
    """Mean, sum or largest over some axes."""

    operation: Literal["mean", "sum", "max"]
    axes: tuple[int, ...]
    keep_dims: bool


@dataclass(frozen=True, slots=True, eq=False)
class Norm(Node):
    """(x − mean) / √(variance + epsilon) over some axes, times `weight` plus `bias`, both of x's rank and broadcast."""

    axes: tuple[int, ...]
    epsilon: float
    weight: Array | None
    bias: Array | None


@dataclass(frozen=True, slots=True, eq=False)
class Pool(Node):
    """Largest or mean of the pixels of a window; what is padded belongs to neither.

    `padding` is (top, left, bottom, right), all others (height, width). A mean has no dilation.
    """

    operation: Literal["max", "average"]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int, int, int]
    dilation: tuple[int, int] = (1, 1)


@dataclass(frozen=True, slots=True, eq=False)
class Resize(Node):
    """Another height and width: each pixel is the one at its place rounded down, or mixed of four (bilinear).

    With `align_corners` the corners' middles fall together, else the corners.
    """

    mode: Literal["nearest", "bilinear"]
    align_corners: bool


@dataclass(frozen=True, slots=True, eq=False)
class Pad(Node):
    """Put numbers around: `amounts` are those before and after each axis."""

    amounts: tuple[tuple[int, int], ...]
    number: float


@dataclass(frozen=True, slots=True, eq=False)
class Concat(Node):
    """Put values one after the other along an axis."""

    axis: int


@dataclass(frozen=True, slots=True, eq=False)
class Slice(Node):
    """Part of a value: from `starts` up to `stops` in steps (at least 1), for each axis."""

    starts: tuple[int, ...]
    stops: tuple[int, ...]
    steps: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Reshape(Node):
    """The same numbers in the same order, of the output's shape."""


@dataclass(frozen=True, slots=True, eq=False)
class Transpose(Node):
    """Axes in another order, as torch's permute."""

    axes: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Expand(Node):
    """Repeat what has size 1 up to the output's shape."""


@dataclass(frozen=True, slots=True)
class Graph:
    """A network; `nodes` are in an order in which they can run, `names` are those of the outputs in files."""

    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    nodes: tuple[Node, ...]
    names: tuple[str, ...] = ("output",)

    @property
    def input(self) -> Value:
        """The input of a network that has one; else the first."""
        return self.inputs[0]

    @property
    def output(self) -> Value:
        """The output of a network that has one; else the first."""
        return self.outputs[0]

    @property
    def called(self) -> dict[Value, str]:
        """What each output is called in files."""
        return dict(zip(self.outputs, self.names, strict=True))
