"""A 1×1 convolution in int8 as ONNX writes it (QDQ), from int8 to int8, and its outputs by numpy."""

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

SHAPE = (1, 16, 8, 8)
CHANNELS = 8
_RANDOM = np.random.default_rng(0)
_WEIGHT = _RANDOM.integers(-63, 64, (CHANNELS, SHAPE[1], 1, 1)).astype(np.int8)
"""In 7 bits: with 8, ONNX Runtime's sums of two products saturate on x86-64 processors without VNNI."""
_BIAS = _RANDOM.integers(-2000, 2000, CHANNELS).astype(np.int32)
_INPUT_SCALE, _WEIGHT_SCALE, _OUTPUT_SCALE = 2.0**-8, 2.0**-6, 2.0**-6
"""Powers of two, so that numpy rounds as every runtime does; some outputs saturate at both ends."""
_INPUT_ZERO, _OUTPUT_ZERO = -3, 5


def qdq_conv() -> bytes:
    """Return the model."""
    constants: dict[str, NDArray[np.generic]] = {
        "x_scale": np.array(_INPUT_SCALE, np.float32),
        "x_zero": np.array(_INPUT_ZERO, np.int8),
        "w": _WEIGHT,
        "w_scale": np.array(_WEIGHT_SCALE, np.float32),
        "w_zero": np.array(0, np.int8),
        "b": _BIAS,
        "b_scale": np.array(_INPUT_SCALE * _WEIGHT_SCALE, np.float32),
        "b_zero": np.array(0, np.int32),
        "y_scale": np.array(_OUTPUT_SCALE, np.float32),
        "y_zero": np.array(_OUTPUT_ZERO, np.int8),
    }
    nodes = [helper.make_node("DequantizeLinear", [n, f"{n}_scale", f"{n}_zero"], [f"{n}_float"]) for n in "xwb"]
    nodes.append(helper.make_node("Conv", ["x_float", "w_float", "b_float"], ["y_float"], kernel_shape=[1, 1]))
    nodes.append(helper.make_node("QuantizeLinear", ["y_float", "y_scale", "y_zero"], ["y"]))
    graph = helper.make_graph(
        nodes,
        "qdq",
        [helper.make_tensor_value_info("x", TensorProto.INT8, SHAPE)],
        [helper.make_tensor_value_info("y", TensorProto.INT8, (1, CHANNELS, *SHAPE[2:]))],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return bytes(model.SerializeToString())


def qdq_outputs(x: NDArray[np.int8]) -> NDArray[np.int64]:
    """Return the outputs for an int8 input of SHAPE."""
    shifted = x.astype(np.int64) - _INPUT_ZERO
    sums = np.einsum("oi,nihw->nohw", _WEIGHT[:, :, 0, 0].astype(np.int64), shifted) + _BIAS[:, None, None]
    scaled = np.rint(sums * (_INPUT_SCALE * _WEIGHT_SCALE / _OUTPUT_SCALE))
    return np.clip(scaled + _OUTPUT_ZERO, -128, 127).astype(np.int64)
