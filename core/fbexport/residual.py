"""Residual: an inverted residual with random weights without torch, node for node as the tracer gives it of the block.

Every measurement times some of them as its reference workload, also where there is no torch: of model files.
"""

import math
from collections.abc import Sequence

import numpy as np

from fbexport.errors import ExportError
from fbexport.formats import load_format
from fbexport.graph import Array, Binary, Conv, Graph, Node, Value
from fbspace.blocks import block_of
from fbspace.opspec import OpSpec


def residual_model(spec: OpSpec, format_name: str, seed: int = 0) -> bytes:
    """Return the model file of an inverted residual in float32; the same bytes every time.

    Raises as `residual_graph` does, UnknownNameError for a format there is not.
    """
    graph = residual_graph(spec, seed)
    return load_format(format_name).encode(graph, [graph.output], "float32", None)


def residual_graph(spec: OpSpec, seed: int = 0) -> Graph:
    """Return the graph of an inverted residual with He-normal weights and small biases.

    Raises ExportError for an operator of another kind, with groups, squeeze-excite or another activation than ReLU.
    """
    if spec.kind != "ir" or spec.groups != 1 or spec.squeeze_excite or spec.activation != "relu":
        raise ExportError(f"{spec.key()} is no plain inverted residual: export_spec builds other operators, with torch")
    random = np.random.RandomState(seed % (1 << 32))  # the numbers of a seed are the same in every version of numpy
    middle = block_of(spec).middle_channels(spec) or spec.in_channels
    height, width = block_of(spec).output_size(spec)
    taken = Value("input", spec.input_shape)
    expanded = Value("0_expand_2", (1, middle, spec.height, spec.width))
    filtered = Value("3_depthwise_2", (1, middle, height, width))
    projected = Value("6_project_1", (1, spec.out_channels, height, width))
    nodes: list[Node] = [
        _conv(taken, expanded, "expand.0", random, is_last=False),
        _conv(expanded, filtered, "depthwise.0", random, is_last=False, depthwise=(spec.kernel, spec.stride)),
        _conv(filtered, projected, "project.0", random, is_last=True),
    ]
    if spec.stride == 1 and spec.in_channels == spec.out_channels:
        nodes.append(Binary((taken, projected), Value("8_add", spec.input_shape), "", operation="add"))
    return Graph((taken,), (nodes[-1].output,), tuple(nodes))


def _conv(
    before: Value,
    after: Value,
    source: str,
    random: np.random.RandomState,
    is_last: bool,
    depthwise: tuple[int, int] | None = None,
) -> Conv:
    """Return a 1x1 convolution, or a depthwise one of a kernel and a stride."""
    kernel, stride = depthwise or (1, 1)
    channels = after.shape[1]
    inputs = 1 if depthwise else before.shape[1]
    return Conv(
        (before,),
        after,
        source,
        weight=_normal(random, (channels, inputs, kernel, kernel), math.sqrt(2 / (inputs * kernel**2))),
        bias=_normal(random, (channels,), 0.1),
        stride=(stride, stride),
        padding=(kernel // 2, kernel // 2),
        groups=channels if depthwise else 1,
        activation="none" if is_last else "relu",
    )


def _normal(random: np.random.RandomState, shape: Sequence[int], deviation: float) -> Array:
    numbers: Array = (random.standard_normal(tuple(shape)) * deviation).astype(np.float32)
    return numbers
