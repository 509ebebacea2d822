"""FakeQuantized: a network that computes in float what its int8 model will, so that training gets used to the rounding.

Quantisation-aware training (Jacob et al., CVPR'18, section 3). Batch normalisation is folded into the weights that are
trained; ranges stay as calibration found them; a rounded number passes the gradient of the number itself, unless it was
clipped (straight-through estimator).
"""

from dataclasses import replace

import torch
from torch import Tensor, nn

from fbexport.errors import ExportError, module_name
from fbexport.functions import constants_of, function_of
from fbexport.graph import Conv, Graph, Linear, Node
from fbexport.quantization.quantized import QuantizedGraph
from fbexport.quantization.scheme import QMAX, QMIN, WEIGHT_MAX, Quantization, Ranges


class FakeQuantized(nn.Module):
    """A graph with trainable weights, every value and every weight rounded as its int8 model rounds them.

    Biases of nothing but zeros stay: the layer may have none, which could take no other (`fold_into`).
    """

    def __init__(self, quantized: QuantizedGraph, ranges: Ranges) -> None:
        super().__init__()
        self.quantized, self.ranges = quantized, ranges
        layers = [node for node in quantized.graph.nodes if isinstance(node, Conv | Linear)]
        self.weights = nn.ParameterList(torch.from_numpy(node.weight.copy()) for node in layers)
        self.biases = nn.ParameterList(
            nn.Parameter(torch.from_numpy(node.bias.copy()), requires_grad=bool(node.bias.any())) for node in layers
        )
        self._constants = constants_of(quantized.graph)
        self._number = {node.output.name: number for number, node in enumerate(layers)}

    def forward(self, x: Tensor) -> Tensor:
        """Map N, C, H, W to N, classes."""
        graph = self.quantized.graph
        values = {graph.input.name: rounded(x, self.quantized.of(graph.input))} | self._constants
        for node in graph.nodes:
            made = function_of(node, self._trained(node))(*(values[value.name] for value in node.inputs))
            values[node.output.name] = rounded(made, self.quantized.of(node.output))
        return values[graph.output.name]

    def _trained(self, node: Node) -> tuple[Tensor, Tensor] | None:
        number = self._number.get(node.output.name)
        if number is None:
            return None
        return rounded_weight(self.weights[number], per_channel=isinstance(node, Conv)), self.biases[number]

    def trained(self) -> Graph:
        """Return the graph with the weights as they are now."""
        nodes = []
        for node in self.quantized.graph.nodes:
            if isinstance(node, Conv | Linear):
                number = self._number[node.output.name]
                weight, bias = (each[number].detach().cpu().numpy().copy() for each in (self.weights, self.biases))
                node = replace(node, weight=weight, bias=bias)
            nodes.append(node)
        return replace(self.quantized.graph, nodes=tuple(nodes))


def rounded(x: Tensor, scheme: Quantization) -> Tensor:
    """Return the nearest numbers that int8 has for a value; gradients pass where nothing is clipped."""
    low, high = (scheme.scale * (end - scheme.zero_point) for end in (QMIN, QMAX))
    clipped = x.clamp(low, high)
    return clipped + (scheme.scale * torch.round(clipped / scheme.scale) - clipped).detach()


def rounded_weight(weight: Tensor, per_channel: bool = True) -> Tensor:
    """Return the nearest numbers that int8 has for weights; the gradient is that of the weights."""
    largest = weight.detach().flatten(1).abs().amax(1) if per_channel else weight.detach().abs().amax().reshape(1)
    scale = (largest / WEIGHT_MAX).clamp_min(torch.finfo(weight.dtype).tiny).reshape(-1, *[1] * (weight.ndim - 1))
    return weight + (scale * torch.round(weight / scale) - weight).detach()


@torch.no_grad()
def fold_into(network: nn.Module, graph: Graph) -> None:
    """Give a network the folded weights of its graph, in place; its batch normalisation then adds the bias alone.

    Raises ExportError for a graph that folds something else than a convolution and the normalisation behind it.
    """
    modules = dict(network.named_modules())
    for node in graph.nodes:
        if not isinstance(node, Conv | Linear):
            continue
        layer = modules[node.source]
        if not isinstance(layer, nn.Conv2d | nn.Linear):
            raise ExportError(f"{module_name(node.source)} cannot take folded weights: it is no convolution")
        layer.weight.copy_(torch.from_numpy(node.weight))
        bias = torch.from_numpy(node.bias)
        if layer.bias is not None:
            layer.bias.copy_(bias)
            continue
        norm = modules.get(_next(node.source))
        if not isinstance(norm, nn.BatchNorm2d) and not bias.any():
            continue
        if not isinstance(norm, nn.BatchNorm2d):
            raise ExportError(f"{module_name(node.source)} has neither a bias nor batch normalisation behind it")
        assert norm.running_mean is not None
        assert norm.running_var is not None
        norm.running_mean.zero_()
        norm.running_var.fill_(1 - norm.eps)
        norm.weight.fill_(1)
        norm.bias.copy_(bias)


def _next(path: str) -> str:
    """Return the path of the layer that follows in the same nn.Sequential."""
    parent, _, name = path.rpartition(".")
    return f"{parent}.{int(name) + 1}".lstrip(".") if name.isdigit() else ""
