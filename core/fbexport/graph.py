"""Graph: a network between torch and a model file, about a dozen operators that every format can write."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Function = Literal["relu", "relu6", "hswish", "hsigmoid", "sigmoid"]
Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Value:
    """A tensor that flows between operators: float32, of shape N, C, H, W or N, C. Names are unique in a graph."""

    name: str
    shape: tuple[int, ...]


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
    """Fully connected layer: N, I → N, O with `weight` O, I and `bias` O."""

    weight: Array
    bias: Array


@dataclass(frozen=True, slots=True, eq=False)
class Activation(Node):
    """A function applied to every element; those that follow a convolution are part of it where `Conv` allows."""

    function: Function


@dataclass(frozen=True, slots=True, eq=False)
class Binary(Node):
    """Sum or product of two values of the same rank, broadcast (N, C, H, W with N, C, 1, 1)."""

    operation: Literal["add", "mul"]


@dataclass(frozen=True, slots=True, eq=False)
class Shuffle(Node):
    """Channel shuffle: N, groups·c, H, W → N, c·groups, H, W."""

    groups: int


@dataclass(frozen=True, slots=True, eq=False)
class Mean(Node):
    """Mean over all pixels: N, C, H, W → N, C, 1, 1 if `keep_dims`, else N, C."""

    keep_dims: bool


@dataclass(frozen=True, slots=True)
class Graph:
    """A network with one input and one output; `nodes` are in an order in which they can run."""

    input: Value
    output: Value
    nodes: tuple[Node, ...]
