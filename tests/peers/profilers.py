"""The runtimes' own profilers: milliseconds of every kernel of a model, in the order in which they run."""

import ctypes
import difflib
import json
import re
import statistics
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from fbmodel.model import open_model
from fbmodel.parts import separable
from fbprof.models.result import Layer, Profiled

Kernels = list[tuple[str, float]]
"""Name or kind of a kernel, and the median of what it took in microseconds."""


def by_onnxruntime(path: Path, runs: int) -> Kernels:
    """Return every node of a session's trace, by the name of the node that it was fused into."""
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "trace")
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        random = np.random.default_rng(0)
        feed = {each.name: random.normal(size=each.shape).astype("float32") for each in session.get_inputs()}
        for _ in range(runs):
            session.run(None, feed)
        events: list[dict[str, Any]] = json.loads(Path(session.end_profiling()).read_text())
    taken: dict[str, list[float]] = defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            taken[event["name"].removesuffix("_kernel_time")].append(event["dur"])
    return [(name, statistics.median(each)) for name, each in taken.items()]


class LiteRtProfiler:
    """A compiled model of LiteRT, whose profiler says what each kernel of XNNPACK took."""

    def __init__(self, path: Path) -> None:
        import ai_edge_litert

        self._library = ctypes.CDLL(str(Path(ai_edge_litert.__file__).parent / "libLiteRt.so"))
        self._c = ctypes.CDLL(None)
        self._c.strdup.restype = ctypes.c_void_p
        environment, model, options, signature = (ctypes.c_void_p() for _ in range(4))
        self._compiled, self._profiler = ctypes.c_void_p(), ctypes.c_void_p()
        self._ask("CreateEnvironment", 0, None, ctypes.byref(environment))
        self._ask("CreateModelFromFile", environment, str(path).encode(), ctypes.byref(model))
        self._ask("CreateOptions", ctypes.byref(options))
        self._ask("SetOptionsHardwareAccelerators", options, 1)  # the CPU
        for kind, toml in (("xnnpack", "num_threads = 1\n"), ("runtime_options_string", "enable_profiling = true\n")):
            opaque, text = ctypes.c_void_p(), ctypes.c_void_p(self._c.strdup(toml.encode()))
            free = ctypes.cast(self._c.free, ctypes.c_void_p)
            self._ask("CreateOpaqueOptions", kind.encode(), text, free, ctypes.byref(opaque))
            self._ask("AddOpaqueOptions", options, opaque)
        self._ask("CreateCompiledModel", environment, model, options, ctypes.byref(self._compiled))
        self._ask("GetModelSignature", model, ctypes.c_size_t(0), ctypes.byref(signature))
        self._ask("CompiledModelGetProfiler", self._compiled, ctypes.byref(self._profiler))
        self._buffers = [self._made(environment, signature, side) for side in ("Input", "Output")]

    def kernels(self, runs: int) -> Kernels:
        """Run the model so often, and return its kernels."""
        for _ in range(3):
            self._run()
        taken: list[list[float]] = []
        kinds: list[str] = []
        for _ in range(runs):
            self._ask("ResetProfiler", self._profiler)
            self._ask("StartProfiler", self._profiler)
            self._run()
            self._ask("StopProfiler", self._profiler)
            text = ctypes.c_char_p()
            self._ask("GetProfileSummary", self._profiler, self._compiled, ctypes.byref(text))
            rows = _rows((text.value or b"").decode())
            kinds = [kind for kind, _ in rows]
            taken.append([1e3 * ms for _, ms in rows])
        return [(kind, statistics.median(each)) for kind, each in zip(kinds, zip(*taken, strict=True), strict=True)]

    def _run(self) -> None:
        (inputs, outputs) = self._buffers
        sizes = [ctypes.c_size_t(len(each)) for each in self._buffers]
        self._ask("RunCompiledModel", self._compiled, ctypes.c_size_t(0), sizes[0], inputs, sizes[1], outputs)

    def _made(self, environment: ctypes.c_void_p, signature: ctypes.c_void_p, side: str) -> Any:
        count = ctypes.c_size_t()
        self._ask(f"GetNumSignature{side}s", signature, ctypes.byref(count))
        made = (ctypes.c_void_p * count.value)()
        for index in range(count.value):
            tensor, needs, buffer = (ctypes.c_void_p() for _ in range(3))
            kind = ctypes.create_string_buffer(256)  # a LiteRtRankedTensorType
            self._ask(f"GetSignature{side}TensorByIndex", signature, ctypes.c_size_t(index), ctypes.byref(tensor))
            self._ask("GetRankedTensorType", tensor, kind)
            at = (self._compiled, ctypes.c_size_t(0), ctypes.c_size_t(index))
            self._ask(f"GetCompiledModel{side}BufferRequirements", *at, ctypes.byref(needs))
            self._ask("CreateManagedTensorBufferFromRequirements", environment, kind, needs, ctypes.byref(buffer))
            made[index] = buffer.value
        return made

    def _ask(self, name: str, *arguments: Any) -> None:
        status = getattr(self._library, f"LiteRt{name}")(*arguments)
        if status:
            sys.exit(f"LiteRt{name} failed with status {status}")


def _rows(summary: str) -> Kernels:
    """Return kind and milliseconds of every row of the part that lists kernels in the order in which they ran."""
    part = summary.partition("Run Order")[2].partition("Top by")[0]
    pattern = re.compile(r"^\s*(\S.*?)\s+[\d.]+\s+[\d.]+\s+([\d.]+)\s+[\d.]+%\s+[\d.]+%", re.MULTILINE)
    return [(match[1], float(match[2])) for match in pattern.finditer(part)]


def paired(path: Path, model: Profiled, kernels: Kernels) -> list[tuple[Layer, float]]:
    """Return layers with what the runtime's profiler says of the same kernel."""
    if model.runtime == "onnxruntime":
        file = open_model(path)
        nodes = file.nodes()
        names = [{nodes[i].name for i in part} for part in separable(file)]
        taken = {name.removesuffix("_nchwc"): us for name, us in kernels}
        sums = [sum(taken.get(name, 0.0) for name in part) for part in names]
        return [(layer, us) for layer, us in zip(model.layers, sums, strict=True) if us]
    ours = [_kind(layer.kind) for layer in model.layers]
    theirs = [_kind(name) for name, _ in kernels]
    blocks = difflib.SequenceMatcher(None, ours, theirs, autojunk=False).get_matching_blocks()
    return [(model.layers[b.a + i], kernels[b.b + i][1]) for b in blocks for i in range(b.size)]


def _kind(text: str) -> str:
    """Return what a kernel is, by the names that the file and XNNPACK have for it."""
    kinds = {
        "depthwise": ("DEPTHWISE", "DWConv"),
        "conv": ("CONV", "Convolution", "Fully Connected", "FULLY"),
        "add": ("ADD", "Add"),
        "mul": ("MUL", "Multiply"),
        "pool": ("MEAN", "POOL", "Mean", "Pooling", "Reduce"),
    }
    return next((kind for kind, words in kinds.items() if any(word in text for word in words)), text)
