"""Inverted residuals without torch: the graph that the tracer gives of the block, and what torch computes of it."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from fbexport.errors import ExportError
from fbexport.graph import Conv, Node
from fbexport.residual import residual_graph, residual_model
from fbexport.trace import trace
from fbprof.doctor import PROBE
from fbprof.plan.plan import REFERENCES
from fbspace.blocks import build_block
from fbspace.opspec import OpSpec

Array = NDArray[np.float32]
SPECS = [PROBE, *(subject.specs[0] for subject in REFERENCES), OpSpec("ir", 8, 8, 9, 7, kernel=5, stride=2)]


def told(node: Node) -> tuple[object, ...]:
    """Return all of a node but the numbers of its weights."""
    what = (type(node), node.inputs, node.output, node.source)
    if not isinstance(node, Conv):
        return (*what, getattr(node, "operation", None))
    shapes = node.weight.shape, node.weight.dtype, node.bias.shape, node.bias.dtype
    return *what, *shapes, node.stride, node.padding, node.groups, node.activation, node.dilation


@pytest.mark.parametrize("spec", SPECS, ids=OpSpec.key)
def test_the_graph_is_the_tracers_but_for_the_weights(spec: OpSpec) -> None:
    ours, traced = residual_graph(spec), trace(build_block(spec).eval(), spec.input_shape)
    assert (ours.input, ours.output) == (traced.input, traced.output)
    assert list(map(told, ours.nodes)) == list(map(told, traced.nodes))


@pytest.mark.parametrize("format_name", ["tflite", "onnx", "torchscript"])
@pytest.mark.parametrize("spec", SPECS, ids=OpSpec.key)
def test_a_file_computes_what_torch_computes(
    spec: OpSpec, format_name: str, run_model: Callable[[str, bytes, Array], Array]
) -> None:
    x = torch.randn(spec.input_shape)
    y = x
    convs = [node for node in residual_graph(spec, 3).nodes if isinstance(node, Conv)]
    for node in convs:
        weight, bias = torch.from_numpy(node.weight), torch.from_numpy(node.bias)
        y = F.conv2d(y, weight, bias, node.stride, node.padding, groups=node.groups)
        y = y.relu() if node is not convs[-1] else y
    y = x + y if y.shape == x.shape else y
    found = run_model(format_name, residual_model(spec, format_name, 3), x.numpy())
    assert np.allclose(found, y.numpy(), atol=1e-4)
    assert 0.2 < y.std() < 5  # neither denormal nor infinite numbers are timed


def test_the_same_seed_gives_the_same_bytes() -> None:
    first, again, other = (residual_model(PROBE, "onnx", seed) for seed in (1, 1, 2))
    assert first == again != other
    assert residual_model(PROBE, "onnx", -1)  # torch takes any whole number for a seed


@pytest.mark.parametrize(
    "spec",
    [OpSpec("ir", 8, 8, 8, 8, groups=2), OpSpec("ir", 8, 8, 8, 8, activation="hswish"), OpSpec("conv", 8, 8, 8, 8)],
)
def test_other_operators_are_refused(spec: OpSpec) -> None:
    with pytest.raises(ExportError, match="no plain inverted residual"):
        residual_graph(spec)
