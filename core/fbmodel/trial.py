"""Shapes as a runtime of this machine finds them by running a file once.

It runs in a process of its own, which this file is the program of: whatever a file does to a runtime ends that process.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

TIMEOUT_S = 600


class TrialError(Exception):
    """What a runtime says of a file that it refuses."""


class _DoesNotRunError(Exception):
    """The numbers that were fed are none that the model takes."""


def try_out(runtime: str, content: bytes, inputs: Mapping[str, tuple[tuple[int, ...], str]]) -> dict[str, Any]:
    """Return what running a file with such inputs (shape and numpy's name of the type, by name) tells.

    Of `litert`, the shape of every tensor by its number; of `onnxruntime`, type and shape of every output by its name,
    those alone that hang on the inputs' shapes and not on what they hold; nothing where it takes none of the numbers
    that were tried. Raises TrialError where a runtime refuses the file or these shapes, or breaks down.
    """
    with tempfile.TemporaryDirectory(prefix="fbmodel-") as folder:
        path = Path(folder) / "model"
        path.write_bytes(content)
        try:
            done = subprocess.run(
                [sys.executable, "-P", __file__, runtime, str(path)],
                input=json.dumps(inputs), capture_output=True, text=True, errors="replace", timeout=TIMEOUT_S,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise TrialError(f"{runtime} did not run it within {TIMEOUT_S} s") from None
    if done.returncode < 0:
        raise TrialError(f"{runtime} broke down on it (signal {-done.returncode})")
    try:
        answer = json.loads(done.stdout.splitlines()[-1])
    except (ValueError, IndexError):
        raise TrialError((done.stderr.strip().splitlines() or [f"{runtime} gave no answer"])[-1][:300]) from None
    if "error" in answer:
        raise TrialError(answer["error"])
    return dict(answer)


def _litert(path: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Resize the inputs, given by number, and run the model without a delegate, as those leave tensors out."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(
        model_path=path,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        experimental_preserve_all_tensors=True,
    )
    for number, (shape, _) in inputs.items():
        interpreter.resize_tensor_input(int(number), shape)
    interpreter.allocate_tensors()
    for number, (shape, element) in inputs.items():
        interpreter.set_tensor(int(number), np.zeros(shape, element))
    interpreter.invoke()
    return {str(each["index"]): each["shape"].tolist() for each in interpreter.get_tensor_details()}


def _onnxruntime(path: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Run the model with zeros and with other numbers; a shape that differs hangs on the numbers."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # otherwise releases from 1.29 write files of their own
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names, draw = [each.name for each in session.get_outputs()], np.random.default_rng(0)
    found: list[dict[str, Any]] = []
    reason: Exception | None = None
    for scale in (0, 1):
        fed = {
            name: np.asarray(draw.uniform(0.5, 1.5, shape) * scale).astype(kind)
            for name, (shape, kind) in inputs.items()
        }
        try:
            results = session.run(names, fed)
        except Exception as error:  # numbers that this model does not take; the others may do
            reason = error
            continue
        arrays = {name: value for name, value in zip(names, results, strict=True) if isinstance(value, np.ndarray)}
        found.append({name: (value.dtype.name, list(value.shape)) for name, value in arrays.items()})
    if not found:
        raise _DoesNotRunError(reason)
    return {name: value for name, value in found[0].items() if all(each.get(name) == value for each in found)}


_RUNTIMES = {"litert": _litert, "onnxruntime": _onnxruntime}

if __name__ == "__main__":
    try:
        result = _RUNTIMES[sys.argv[1]](sys.argv[2], json.loads(sys.stdin.read()))
    except _DoesNotRunError:
        result = {}
    except Exception as error:  # a runtime's errors have no base class of their own
        result = {"error": (str(error).strip().splitlines() or [type(error).__name__])[0][:300]}
    sys.stdout.write(f"\n{json.dumps(result)}\n")
