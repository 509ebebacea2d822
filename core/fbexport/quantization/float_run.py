"""Run a graph in float32 with torch: what quantisation is calibrated by and compared with."""

from collections.abc import Iterator

import torch
from torch import Tensor

from fbexport.errors import ExportError
from fbexport.functions import function_of
from fbexport.graph import Graph, Node, Value


@torch.no_grad()
def run_float(graph: Graph, x: Tensor) -> Iterator[tuple[Node | None, Value, Tensor]]:
    """Yield every value of a graph for an input of N, C, H, W, with the operator it comes of; first the input itself.

    N may differ from the graph's. Raises ExportError where the input has another shape.
    """
    if x.ndim != 4 or tuple(x.shape[1:]) != graph.input.shape[1:]:
        expected = ", ".join(map(str, graph.input.shape[1:]))
        raise ExportError(f"the network takes images of shape N, {expected}, not {', '.join(map(str, x.shape))}")
    values = {graph.input.name: x}
    yield None, graph.input, x
    for node in graph.nodes:
        made = function_of(node)(*(values[value.name] for value in node.inputs))
        values[node.output.name] = made
        yield node, node.output, made
