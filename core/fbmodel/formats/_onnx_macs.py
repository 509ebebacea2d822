"""Multiply-accumulates of ONNX nodes, and the numbers that a model has learnt."""

import math
from collections.abc import Callable, Mapping

from onnx import NodeProto, TensorProto

from fbmodel.formats._onnx_graph import STANDARD, OnnxGraph, bodies, tensors_of
from fbmodel.tensors import Tensor

_WEIGHT = {"Conv": 1, "ConvInteger": 1, "QLinearConv": 3}
"""Where convolutions have their weights: output channels, input channels of a group, kernel."""
_UNCOUNTED = {"Einsum", "Attention", "LinearAttention", "Scan", "Loop", "If", "DeformConv", "DFT", "STFT"}
_SCHEME_INPUTS = {
    "QuantizeLinear": (1, 2),
    "DequantizeLinear": (1, 2),
    "QLinearConv": (1, 2, 4, 5, 6, 7),
    "QLinearMatMul": (1, 2, 4, 5, 6, 7),
    "ConvInteger": (2, 3),
    "MatMulInteger": (2, 3),
}
"""Inputs that say what integers stand for."""
_LEARNT = {
    TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE, TensorProto.INT8,
    TensorProto.UINT8, TensorProto.INT4, TensorProto.UINT4,
}  # fmt: skip


def count_macs(node: NodeProto, types: Mapping[str, Tensor]) -> int | None:
    """Return a node's multiply-accumulates; 0 for operators that multiply by no weights, None where it is not known."""

    def shape(name: str) -> tuple[int, ...]:
        found = types.get(name)
        if found is None or found.shape is None or None in found.shape:
            raise LookupError(name)
        return tuple(size for size in found.shape if size is not None)

    if node.domain not in STANDARD or next(bodies(node), None) or node.op_type in _UNCOUNTED:
        return None
    try:
        return _count(node, shape)
    except (LookupError, TypeError):
        return None


def _count(node: NodeProto, shape: Callable[[str], tuple[int, ...]]) -> int:
    """Count by the shapes of names. Raises LookupError where one is not known."""
    match node.op_type:
        case "Conv" | "ConvInteger" | "QLinearConv":
            return math.prod(shape(node.output[0])) * math.prod(shape(node.input[_WEIGHT[node.op_type]])[1:])
        case "ConvTranspose":
            return math.prod(shape(node.input[0])) * math.prod(shape(node.input[1])[1:])
        case "Gemm":
            is_transposed = any(each.name == "transA" and each.i for each in node.attribute)
            return math.prod(shape(node.output[0])) * shape(node.input[0])[0 if is_transposed else 1]
        case "MatMul" | "MatMulInteger" | "QLinearMatMul":
            return math.prod(shape(node.output[0])) * shape(node.input[0])[-1]
        case "LSTM" | "GRU" | "RNN":
            steps, batch = shape(node.input[0])[:2]
            return steps * batch * (math.prod(shape(node.input[1])) + math.prod(shape(node.input[2])))
        case _:
            return 0


def count_parameters(graph: OnnxGraph) -> int:
    """Return how many numbers a model's constants have that are neither shapes nor indices nor scales.

    A single number is a setting. Biases of quantized operators are int32: those count that a DequantizeLinear or
    QLinearConv reads.
    """
    schemes: set[str] = set()
    biases: set[str] = set()
    for node in graph.graph.node:
        schemes.update(node.input[at] for at in _SCHEME_INPUTS.get(node.op_type, ()) if at < len(node.input))
        biases.update(node.input[:1] if node.op_type == "DequantizeLinear" else node.input[8:9])
    found = 0
    for name, tensor in tensors_of(graph.graph):
        is_learnt = tensor.data_type in _LEARNT or (tensor.data_type == TensorProto.INT32 and name in biases)
        size = math.prod(tensor.dims)
        found += size if size > 1 and is_learnt and name not in schemes else 0
    return found
