"""Kernels: which operators of a model file a runtime does not run in the kernels that its precision promises."""

import tempfile
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from fbbase.errors import UnknownNameError
from fbexport.errors import ExportError
from fbexport.host import PACKAGES

_INTEGER_KERNELS = ("QLinear", "QGemm", "ConvInteger", "MatMulInteger")
_MOVING = {"Clip", "Flatten", "ReorderInput", "ReorderOutput", "Reshape", "Squeeze", "Transpose", "Unsqueeze"}
"""Operators that work on integers as on floats; where floats go in, a DequantizeLinear before them tells."""
_CONVERSIONS = {"QuantizeLinear", "DequantizeLinear"}


def fallbacks(model: bytes, runtime: str, precision: str) -> list[str]:
    """Return what runs otherwise than a model's precision promises, each kind of operator once, in order.

    With litert that is what is left outside XNNPACK, e.g. `HARD_SWISH not delegated`; with onnxruntime what an int8
    model computes in float, e.g. `HardSwish in float`, or converts. Other devices may place operators otherwise. Raises
    UnknownNameError for another runtime, ExportError where its package is not installed here or cannot load the model.
    """
    if runtime not in _RUNTIMES:
        raise UnknownNameError("runtime", runtime, list(_RUNTIMES))
    try:
        return list(dict.fromkeys(_RUNTIMES[runtime](model, precision)))
    except ModuleNotFoundError as error:
        raise ExportError(
            f"to see which kernels {runtime} uses, this machine needs the package {PACKAGES[runtime]}: "
            f"pip install {PACKAGES[runtime]}"
        ) from error


def _litert(model: bytes, precision: str) -> list[str]:
    from ai_edge_litert.interpreter import Interpreter

    try:
        interpreter = Interpreter(model_content=model, num_threads=1)
        interpreter.allocate_tensors()
    except (RuntimeError, ValueError) as error:
        raise _unloadable("litert", error) from error
    operators = interpreter._get_ops_details()  # nothing public tells what a delegate took
    own = [operator for operator in operators if operator["op_name"] != "DELEGATE"]
    makers = {int(output): operator for operator in own for output in operator["outputs"]}
    delegated: set[int] = set()
    for delegate in operators[len(own) :]:
        delegated |= _between(delegate["inputs"], delegate["outputs"], makers)
    return [f"{operator['op_name']} not delegated" for operator in own if operator["index"] not in delegated]


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


def _onnxruntime(model: bytes, precision: str) -> list[str]:
    if precision == "float32":
        return []
    import onnx
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3  # else it warns that the file it writes is this machine's
    options.add_session_config_entry("session.disable_prepacking", "1")  # the model is not run
    with tempfile.TemporaryDirectory(prefix="fbprof-") as folder:
        path = Path(folder) / "optimised.onnx"
        options.optimized_model_filepath = str(path)
        try:
            onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's errors have no base class of their own
            raise _unloadable("onnxruntime", error) from error
        nodes = onnx.load(path).graph.node
    return [
        f"{node.op_type} remains" if node.op_type in _CONVERSIONS else f"{node.op_type} in float"
        for node in nodes
        if not node.op_type.startswith(_INTEGER_KERNELS) and node.op_type not in _MOVING
    ]


def _torch(model: bytes, precision: str) -> list[str]:
    return []  # its only precision is float32, and all its kernels are


def _unloadable(runtime: str, error: Exception) -> ExportError:
    return ExportError(f"{runtime} on this machine cannot load the model: {str(error).strip()}")


_RUNTIMES: Mapping[str, Callable[[bytes, str], list[str]]] = {
    "litert": _litert,
    "onnxruntime": _onnxruntime,
    "torch": _torch,
}
