"""Products of matrices, softmax and attention."""

import math
import operator
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from fbexport.graph import Constant, MatMul, Softmax, Value
from fbexport.translate.call import Call, Results
from fbexport.translate.elementwise import binary
from fbexport.translate.layers import linear
from fbexport.translate.moves import at_rank, permute


def _softmax(call: Call) -> Value:
    x, dim, _, _ = call.bind(input=None, dim=None, _stacklevel=3, dtype=None)
    if dim is None:
        raise call.error("the axis is to be given: softmax(x, dim=-1)")
    x = call.value(x)
    return call.add(Softmax, [x], x.shape, axis=dim % len(x.shape))


def _matmul(call: Call) -> Value:
    first, second = call.bind(input=None, other=None)
    return product(call, call.value(first), call.value(second))


def product(call: Call, first: Value, second: Value) -> Value:
    """Add a product of matrices; with one that is known it is a fully connected layer."""
    shape = call.shape_by(torch.matmul, first, second)
    if isinstance(second, Constant) and len(second.shape) == 2 and len(first.shape) > 1:
        return linear(call, first, np.ascontiguousarray(second.array.T), None)
    if min(len(first.shape), len(second.shape)) < 2:
        raise call.error(f"it needs two matrices, not {first.shape} and {second.shape}")
    return call.add(MatMul, [at_rank(call, value, len(shape)) for value in (first, second)], shape)


def _attention(call: Call) -> Value:
    """Add softmax(q · kᵀ · scale + mask) · v."""
    query, key, value, mask, _, is_causal, scale, grouped = call.bind(
        query=None, key=None, value=None, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False
    )
    query, key, value = call.value(query), call.value(key), call.value(value)
    if grouped:
        raise call.error("grouped queries are not known")
    rank, factor = len(key.shape), 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    turned = permute(call, key, [*range(rank - 2), rank - 1, rank - 2])
    scores = product(call, binary(call, query, float(factor), "mul"), turned)
    if is_causal:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
    if isinstance(mask, Tensor) and mask.dtype == torch.bool:
        mask = torch.zeros(mask.shape).masked_fill(~mask, _MASKED)
    if mask is not None:
        scores = binary(call, scores, mask, "add")
    weights = call.add(Softmax, [scores], scores.shape, axis=len(scores.shape) - 1)
    return product(call, weights, value)


_MASKED = -1e9
"""Instead of minus infinity, which softmax in a kernel of others may make NaN of."""


FUNCTIONS: Mapping[object, Callable[[Call], Results]] = {
    F.softmax: _softmax,
    torch.softmax: _softmax,
    torch.matmul: _matmul,
    torch.bmm: _matmul,
    operator.matmul: _matmul,
    F.scaled_dot_product_attention: _attention,
}
METHODS: Mapping[str, Callable[[Call], Results]] = {
    "softmax": _softmax,
    "matmul": _matmul,
    "bmm": _matmul,
}
