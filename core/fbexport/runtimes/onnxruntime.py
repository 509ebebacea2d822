"""onnxruntime: ONNX files in ONNX Runtime, on its CPU provider."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fbbase.locks import scratch_folder
from fbexport.graph import Array
from fbexport.quantization.scheme import UNSIGNED, Quantization
from fbexport.runtimes import NativeLibrary, Run, Runtime

_PROVIDERS = ["CPUExecutionProvider"]
_INTEGER_KERNELS = ("QLinear", "QGemm", "ConvInteger", "MatMulInteger")
_MOVING = {"Clip", "Flatten", "ReorderInput", "ReorderOutput", "Reshape", "Squeeze", "Transpose", "Unsqueeze"}
"""Operators that work on integers as on floats; where floats go in, a DequantizeLinear before them tells."""
_SAME_NUMBERS = {"Clip", "Expand", "MaxPool", "Reshape", "Slice", "Transpose"}
_CONVERSIONS = {"QuantizeLinear", "DequantizeLinear"}


class OnnxRuntime(Runtime):
    """ONNX models, whose int8 numbers are unsigned in the file."""

    package = "onnxruntime"
    format = "onnx"
    environment = ("ORT_DISABLE_TELEMETRY=1",)  # otherwise releases from 1.29 write outside of our folders
    native = NativeLibrary("libonnxruntime.so.1", ("onnxruntime/capi/libonnxruntime.so.*",))

    def load(self, content: bytes, threads: int) -> Run:
        """Open a session."""
        import onnx
        import onnxruntime

        options = _options(threads)
        # On x86 without VNNI the fast kernels overflow in 16 bits, as no phone's do; these sum in 32
        # (docs/measuring/int8.md).
        options.add_session_config_entry("session.x64quantprecision", "1")
        session = onnxruntime.InferenceSession(content, options, providers=_PROVIDERS)
        names = [output.name for output in session.get_outputs()]
        known = _schemes(onnx.load_from_string(content))
        sources, schemes = [each.name for each in session.get_inputs()], [known.get(name) for name in names]

        def run(*inputs: Array) -> list[Array]:
            fed: dict[str, NDArray[Any]] = {}
            for x, name in zip(inputs, sources, strict=True):
                source = known.get(name)
                whole = x if source is None else (source.quantize(x).astype(np.int16) + UNSIGNED).astype(np.uint8)
                fed[name] = np.ascontiguousarray(whole)
            results = session.run(names, fed)
            return [
                y if scheme is None else scheme.dequantize(y.astype(np.int16) - UNSIGNED)
                for y, scheme in zip(results, schemes, strict=True)
            ]

        return run

    def fallbacks(self, content: bytes, precision: str) -> Iterator[str]:
        """Yield what an int8 model computes in float, or converts."""
        if precision == "float32":
            return
        import onnx
        import onnxruntime

        options = _options(1)
        options.add_session_config_entry("session.disable_prepacking", "1")  # the model is not run
        with scratch_folder() as folder:
            path = folder / "optimised.onnx"
            options.optimized_model_filepath = str(path)
            onnxruntime.InferenceSession(content, options, providers=_PROVIDERS)
            nodes = onnx.load(path).graph.node
        for node in nodes:
            if node.op_type in _CONVERSIONS:
                yield f"{node.op_type} remains"
            elif not node.op_type.startswith(_INTEGER_KERNELS) and node.op_type not in _MOVING:
                yield f"{node.op_type} in float"


def _options(threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # else it warns that the file it writes is this machine's
    return options


def _schemes(model: Any) -> dict[str, Quantization]:
    """Return what the tensors of 8 bits stand for, by what our files say and the conversions at both ends of them."""
    from onnx import numpy_helper

    told = {each.key: each.value for each in model.metadata_props}

    constants = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
    found = {
        name: Quantization(float(told[f"{name}_scale"]), int(told[f"{name}_zero_point"]) - UNSIGNED)
        for name in ("input", "output")
        if f"{name}_scale" in told
    }
    for node in model.graph.node:
        at = {"QuantizeLinear": node.output, "DequantizeLinear": node.input}.get(node.op_type)
        if at and node.input[1] in constants and constants[node.input[1]].ndim == 0:
            zero_point = int(constants[node.input[2]]) - UNSIGNED
            found.setdefault(at[0], Quantization(float(constants[node.input[1]]), zero_point))
        elif node.op_type in _SAME_NUMBERS and node.input[0] in found:
            found.setdefault(node.output[0], found[node.input[0]])
    return found
