"""HostModel: a model file run in its runtime on this machine, images in and real numbers out."""

import io
import os
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fbbase.errors import UnknownNameError
from fbexport.errors import ExportError
from fbexport.quantization.scheme import UNSIGNED, Quantization

Array = NDArray[np.float32]
PACKAGES = {"litert": "ai-edge-litert", "onnxruntime": "onnxruntime", "torch": "torch"}
"""What has to be installed for a runtime."""


class HostModel(Protocol):
    """A loaded model; what is int8 in it is converted on the way in and out."""

    def run(self, x: Array) -> list[Array]:
        """Return every output for an input of N, C, H, W, as many images as the model was written for.

        Outputs are N, C, H, W or N, C.
        """
        ...


def load_model(content: bytes, runtime: str, threads: int = 1) -> HostModel:
    """Load a model file in a runtime of this machine.

    Raises UnknownNameError for a runtime that is not known, ExportError where it is not installed or refuses the file.
    """
    if runtime not in _RUNTIMES:
        raise UnknownNameError("runtime", runtime, list(_RUNTIMES))
    try:
        return _RUNTIMES[runtime](content, threads)
    except ModuleNotFoundError as error:
        raise ExportError(f"runtime {runtime} is not installed here: pip install {PACKAGES[runtime]}") from error
    except (RuntimeError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ExportError(f"runtime {runtime} refuses the model: {reason}") from None


class _LiteRt:
    def __init__(self, content: bytes, threads: int) -> None:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        from ai_edge_litert.interpreter import Interpreter

        self._interpreter = Interpreter(model_content=content, num_threads=threads)
        self._interpreter.allocate_tensors()
        self._source = self._interpreter.get_input_details()[0]
        self._outputs = self._interpreter.get_output_details()

    def run(self, x: Array) -> list[Array]:
        self._interpreter.set_tensor(self._source["index"], _into(x.transpose(0, 2, 3, 1), self._source))
        self._interpreter.invoke()
        return [_out_of(self._interpreter.get_tensor(output["index"]), output) for output in self._outputs]


def _scheme_of(tensor: dict[str, Any]) -> Quantization | None:
    scale, zero_point = tensor["quantization"]
    return Quantization(float(scale), int(zero_point)) if tensor["dtype"] is np.int8 else None


def _into(x: Array, tensor: dict[str, Any]) -> NDArray[Any]:
    scheme = _scheme_of(tensor)
    return np.ascontiguousarray(x if scheme is None else scheme.quantize(x))


def _out_of(y: NDArray[Any], tensor: dict[str, Any]) -> Array:
    scheme = _scheme_of(tensor)
    real = y if scheme is None else scheme.dequantize(y)
    return real.transpose(0, 3, 1, 2) if real.ndim == 4 else real


class _OnnxRuntime:
    def __init__(self, content: bytes, threads: int) -> None:
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
        import onnx
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        # On x86 without VNNI the fast kernels overflow in 16 bits, as no phone's do; these sum in 32
        # (docs/measuring/int8.md).
        options.add_session_config_entry("session.x64quantprecision", "1")
        self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        self._names = [output.name for output in self._session.get_outputs()]
        self._schemes = _onnx_schemes(onnx.load_from_string(content))

    def run(self, x: Array) -> list[Array]:
        source = self._schemes.get("input")
        fed = x if source is None else (source.quantize(x).astype(np.int16) + UNSIGNED).astype(np.uint8)
        results = self._session.run(self._names, {"input": np.ascontiguousarray(fed)})
        schemes = [self._schemes.get(name) for name in self._names]
        return [
            y if scheme is None else scheme.dequantize(y.astype(np.int16) - UNSIGNED)
            for y, scheme in zip(results, schemes, strict=True)
        ]


def _onnx_schemes(model: Any) -> dict[str, Quantization]:
    """Return what the tensors of 8 bits stand for, by the conversions at both ends of them."""
    from onnx import numpy_helper

    constants = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
    found: dict[str, Quantization] = {}
    for node in model.graph.node:
        at = {"QuantizeLinear": node.output, "DequantizeLinear": node.input}.get(node.op_type)
        if at and node.input[1] in constants and constants[node.input[1]].ndim == 0:
            zero_point = int(constants[node.input[2]]) - UNSIGNED
            found.setdefault(at[0], Quantization(float(constants[node.input[1]]), zero_point))
    return found


class _Torch:
    def __init__(self, content: bytes, threads: int) -> None:
        import torch

        self._torch, self._module = torch, torch.jit.load(io.BytesIO(content))  # type: ignore[no-untyped-call]

    def run(self, x: Array) -> list[Array]:
        # To profile for optimising would cost a second.
        with self._torch.no_grad(), self._torch.jit.optimized_execution(False):  # type: ignore[attr-defined]
            y: Array = self._module(self._torch.from_numpy(x)).numpy()
        return [y]


_RUNTIMES: dict[str, Callable[[bytes, int], HostModel]] = {
    "litert": _LiteRt,
    "onnxruntime": _OnnxRuntime,
    "torch": _Torch,
}
