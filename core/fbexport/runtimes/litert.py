"""litert: TFLite files in LiteRT, whose kernels for phones are XNNPACK's."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fbexport.graph import Array
from fbexport.quantization.scheme import Quantization
from fbexport.runtimes import NativeLibrary, Run, Runtime


class LiteRt(Runtime):
    """TensorFlow Lite models, N, H, W, C in the file."""

    package = "ai-edge-litert"
    format = "tflite"
    environment = ("TF_CPP_MIN_LOG_LEVEL=2",)
    native = NativeLibrary("libLiteRt.so", ("ai_edge_litert/libLiteRt.so",))

    def load(self, content: bytes, threads: int) -> Run:
        """Load a model into an interpreter."""
        interpreter = _interpreter(content, threads)
        sources, outputs = interpreter.get_input_details(), interpreter.get_output_details()

        def run(*inputs: Array) -> list[Array]:
            for x, source in zip(inputs, sources, strict=True):
                interpreter.set_tensor(source["index"], _into(x.transpose(0, 2, 3, 1) if x.ndim == 4 else x, source))
            interpreter.invoke()
            return [_out_of(interpreter.get_tensor(output["index"]), output) for output in outputs]

        return run

    def fallbacks(self, content: bytes, precision: str) -> Iterator[str]:
        """Yield what is left outside XNNPACK."""
        operators = _interpreter(content, 1)._get_ops_details()  # nothing public tells what a delegate took
        own = [operator for operator in operators if operator["op_name"] != "DELEGATE"]
        makers = {int(output): operator for operator in own for output in operator["outputs"]}
        delegated: set[int] = set()
        for delegate in operators[len(own) :]:
            delegated |= _between(delegate["inputs"], delegate["outputs"], makers)
        yield from (f"{each['op_name']} not delegated" for each in own if each["index"] not in delegated)


def _interpreter(content: bytes, threads: int) -> Any:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=content, num_threads=threads)
    interpreter.allocate_tensors()
    return interpreter


def _scheme_of(tensor: Mapping[str, Any]) -> Quantization | None:
    scale, zero_point = tensor["quantization"]
    return Quantization(float(scale), int(zero_point)) if tensor["dtype"] is np.int8 else None


def _into(x: Array, tensor: Mapping[str, Any]) -> NDArray[Any]:
    scheme = _scheme_of(tensor)
    return np.ascontiguousarray(x if scheme is None else scheme.quantize(x))


def _out_of(y: NDArray[Any], tensor: Mapping[str, Any]) -> Array:
    scheme = _scheme_of(tensor)
    real = y if scheme is None else scheme.dequantize(y)
    return real.transpose(0, 3, 1, 2) if real.ndim == 4 else real


def _between(inputs: Collection[int], outputs: Collection[int], makers: Mapping[int, Any]) -> set[int]:
    """Return the operators that lead from some tensors to others; a delegate lists only its ends."""
    found: set[int] = set()
    seen, waiting = {int(tensor) for tensor in inputs}, [int(tensor) for tensor in outputs]
    while waiting:
        tensor = waiting.pop()
        if tensor in seen or tensor not in makers:
            continue
        seen.add(tensor)
        found.add(makers[tensor]["index"])
        waiting += [int(source) for source in makers[tensor]["inputs"]]
    return found
