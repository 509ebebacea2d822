"""The Python benchmark agent: loads models, times them, and answers in JSON lines (docs/devices/agent-protocol.md).

One file that needs only Python, numpy and a runtime, so that it can be copied to a board and run there. It times what
it is told to time and decides nothing. It ends on `bye`, when its input ends, or at its deadline; and within a model
that runs on, once whoever started it is gone.

usage: agent.py [--threads N] [--cores big] [--deadline-s S] [--memory-bytes N] [--sys DIR] [--runtime FILE ...]
"""

import argparse
import ctypes
import hashlib
import importlib.util
import json
import math
import os
import platform
import re
import select
import stat
import sys
import threading
import time

PROTOCOL = 2
MAX_LINE_BYTES = 4 << 20
MAX_FILE_BYTES = 1 << 40
MAX_PIECES = 10_000
BLOCK_BYTES = 1 << 20
MAX_CORES = 1024
MAX_TENSORS = 64
MAX_RANK = 8
MAX_VALUES = 1 << 28
ELEMENTS = ("float16", "float32", "float64", "int8", "uint8", "int16", "int32", "int64", "bool")
WHOLE = {"int8": (24, 128), "uint8": (24, 0), "int16": (16, 32768), "int32": (31, 0), "int64": (31, 0), "bool": (31, 0)}
WORDS = ("big", "middle", "little", "all")
FAMILIES = (
    "41c05 41c07 41d01 41d02 41d03 41d04 41d05 41d46 41d80 41d88 41d8a 51201 51211 51801 51803 51805",
    "41c08 41c09 41c0d 41c0e 41c0f 41d07 41d08 41d09 41d0a 41d0b 41d0d 41d0e 41d41 41d42 41d47 41d4b 41d4d 41d81 "
    "41d87 41d8b 51001 51205 51800 51802 51804",
    "41d44 41d48 41d4c 41d4e 41d82 41d85 41d8c 41d90 53001 53002 53003 53004",
)  # Arm's cores by implementer and part, as in MIDR_EL1: little, middle, big
RUNTIMES = {}


class Runtime:
    """A loaded model. A class that derives from this one is the runtime of its `name` in requests.

    `packages` are those that it can do with, the best first. It is made with a model's path, the number of threads and
    the model's Inputs; `run()` runs the model once on their values, and `outputs()` are the last run's, numpy arrays.
    """

    name = None
    packages = ()

    def __init_subclass__(cls):
        RUNTIMES[cls.name] = cls


class LiteRt(Runtime):
    """TensorFlow Lite models, NHWC."""

    name = "litert"
    packages = ("ai-edge-litert", "tflite-runtime")

    def __init__(self, path, threads, inputs):
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError:
            from tflite_runtime.interpreter import Interpreter  # 32-bit Arm boards have only this one
        self.interpreter = Interpreter(model_path=path, num_threads=threads)
        self.interpreter.allocate_tensors()
        tensors = self.interpreter.get_input_details()
        found = [(t["name"], t["shape"].tolist(), t["dtype"]().dtype.name) for t in tensors]
        for tensor, values in zip(tensors, inputs.values(found)):  # noqa: B905 - Python 3.9 has no strict
            self.interpreter.set_tensor(tensor["index"], values)
        self.run = self.interpreter.invoke

    def outputs(self):
        """Return the outputs of the last run as numpy arrays."""
        return [self.interpreter.get_tensor(tensor["index"]) for tensor in self.interpreter.get_output_details()]


class OnnxRuntime(Runtime):
    """ONNX models, NCHW, with inputs and outputs bound once so that no copy is timed."""

    name = "onnxruntime"
    packages = ("onnxruntime",)

    def __init__(self, path, threads, inputs):
        os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # otherwise releases from 1.29 write outside of our folders
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.binding = self.session.io_binding()
        found = [(tensor.name, tensor.shape, self.element_of(tensor)) for tensor in self.session.get_inputs()]
        self.values = inputs.values(found)
        for (name, _, _), values in zip(found, self.values):  # noqa: B905 - Python 3.9 has no strict
            self.binding.bind_cpu_input(name, values)
        outputs = self.session.get_outputs()
        check_elements([self.element_of(tensor) for tensor in outputs])  # strings would be a crash
        for tensor in outputs:
            self.binding.bind_output(tensor.name)

    def element_of(self, tensor):
        """Return the type of an input's or output's elements."""
        element = re.fullmatch(r"tensor\((.*)\)", tensor.type)
        if not element:
            raise ValueError(f"{tensor.name} of the model is no tensor, it is {tensor.type}")
        return {"float": "float32", "double": "float64"}.get(element[1], element[1])

    def run(self):
        """Run the model once."""
        self.session.run_with_iobinding(self.binding)

    def outputs(self):
        """Return the outputs of the last run as numpy arrays."""
        return self.binding.copy_outputs_to_cpu()


class Torch(Runtime):
    """TorchScript models, NCHW, optimised after loading (an optimised file would not load).

    The only format that does not know its inputs: the host tells their shapes and elements, in their order.
    """

    name = "torch"
    packages = ("torch",)

    def __init__(self, path, threads, inputs):
        import warnings

        import torch

        warnings.simplefilter("ignore")  # TorchScript is deprecated; it is measured on purpose
        torch.set_num_threads(threads)
        module = torch.jit.load(path).eval()
        self.module = torch.jit.optimize_for_inference(torch.jit.freeze(module))
        types = dict(enumerate(str(argument.type) for argument in module.forward.schema.arguments[1:]))
        self.inputs = [  # an argument that is a number takes no tensor
            torch.from_numpy(v) if "Tensor" in types.get(i, "Tensor") else v.item()
            for i, v in enumerate(inputs.values())
        ]
        self.inference_mode = torch.inference_mode
        self.result = None

    def run(self):
        """Run the model once."""
        with self.inference_mode():
            self.result = self.module(*self.inputs)

    def outputs(self):
        """Return the outputs of the last run as numpy arrays."""
        return [tensor.numpy() for tensor in self.flat(self.result)]

    def flat(self, result):
        """Yield the tensors of tuples, lists and dictionaries."""
        if isinstance(result, (tuple, list, dict)):
            for part in result.values() if isinstance(result, dict) else result:
                yield from self.flat(part)
        elif hasattr(result, "numpy"):
            yield result
        else:
            raise ValueError(f"an output of the model is no tensor, it is {type(result).__name__}")


class Ncnn(Runtime):
    """ncnn models of one file: the weights, the text of the layers, a line of JSON, how long both are, `NCNN`."""

    name = "ncnn"
    packages = ("ncnn",)

    def __init__(self, path, threads, inputs):
        import ncnn

        with open_regular(path) as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(size - 8, 0))
            end = file.read()
            start = size - 8 - int.from_bytes(end[:4], "little")
            if end[4:] != b"NCNN" or start < 0:
                raise ValueError("it is no ncnn model of one file, or not all of it")
            file.seek(start)
            param, _, line = file.read(size - 8 - start).decode().rstrip("\n").rpartition("\n")
        settings = json.loads(line)
        self.net = ncnn.Net()
        for name, value in settings["options"].items():
            setattr(self.net.opt, name, value)
        self.net.opt.num_threads = threads
        if self.net.load_param_mem(f"{param}\n") or self.net.load_model(path):
            raise ValueError("ncnn cannot load it")
        shapes = settings.get("inputs")
        if not shapes:
            w, h, c = re.search(r"^Input .* input 0=(\d+) 1=(\d+) 2=(\d+)$", param, re.MULTILINE).groups()
            shapes = {"input": [max(shape[0] for shape in settings["outputs"].values()), int(c), int(h), int(w)]}
        arrays = inputs.values([(name, shape, "float32") for name, shape in shapes.items()])
        flat = [values if 2 <= values.ndim <= 5 else values.reshape(len(values), -1) for values in arrays]
        images = [[ncnn.Mat(image).clone() for image in values] for values in flat]  # with aligned channels
        self.images = [list(zip(shapes, each)) for each in zip(*images)]  # noqa: B905 - Python 3.9 has no strict
        self.names, self.results = list(settings["outputs"]), []

    def run(self):
        """Run the model once: ncnn takes one image after the other."""
        self.results.clear()
        for image in self.images:
            extractor = self.net.create_extractor()
            for name, mat in image:
                extractor.input(name, mat)
            self.results += [extractor.extract(name) for name in self.names]

    def outputs(self):
        """Return the outputs of the last run as numpy arrays."""
        import numpy

        if any(status for status, _ in self.results):
            raise ValueError("ncnn cannot run it")
        return [numpy.array(output) for _, output in self.results]


class Inputs:
    """What a model is fed with: the bytes of the request's file, or the test input.

    `asked` are name, shape and element of each input. Where the request lists none it is one of float32, by which a
    model that knows its own is not checked.
    """

    def __init__(self, request):
        self.are_listed = request.get("inputs") is not None
        listed = request["inputs"] if self.are_listed else [{"shape": request["input_shape"], "element": "float32"}]
        self.asked = [(one.get("name"), one["shape"], one["element"]) for one in listed]
        self.path = request.get("inputs_path")

    def values(self, found=None):
        """Return an array for each input: as `found`, name, shape and element in the file, or else as asked for."""
        if found is None:
            found = [(name or str(number), *rest) for number, (name, *rest) in enumerate(self.asked)]
        elif self.are_listed:
            found = self.settled(found)
        check_elements([element for _, _, element in found])
        for name, shape, _ in found:
            if not all(type(side) is int and side > 0 for side in shape):
                raise ValueError(f"input {name} has the shape {shape}, which is not fixed")
            if len(shape) > MAX_RANK or math.prod(shape) > MAX_VALUES:
                raise ValueError(f"input {name} has more than {MAX_RANK} dimensions or {MAX_VALUES} values: {shape}")
        if self.path is None:
            return [test_input(shape, element) for _, shape, element in found]
        with open_regular(self.path) as file:
            arrays = [file_input(file, *one) for one in found]
            if file.read(1):
                raise ValueError("the file of inputs has more bytes than the model's inputs")
        return arrays

    def settled(self, found):
        """Return inputs with sides that the file leaves open as asked for. Refuse others than those asked for."""
        if len(found) != len(self.asked):
            raise ValueError(f"the model has {len(found)} inputs, {len(self.asked)} were asked for")
        settled = []
        for (name, shape, element), asked in zip(found, self.asked):  # noqa: B905 - Python 3.9 has no strict
            if len(shape) == len(asked[1]):
                shape = [side if type(side) is int else wanted for side, wanted in zip(shape, asked[1])]  # noqa: B905
            settled.append((name, shape, element))
            for what, here, wanted in zip(("name", "shape", "element"), settled[-1], asked):  # noqa: B905
                if wanted not in (None, here):
                    raise ValueError(f"input {name} has the {what} {here} in the file, {wanted} was asked for")
        return settled


def file_input(file, name, shape, element):
    """Return the next values of a file of inputs."""
    import numpy

    values = numpy.fromfile(file, element, math.prod(shape))
    if values.size < math.prod(shape):
        raise ValueError(f"the file of inputs ends within input {name}")
    if element == "bool" and values.view("uint8").max() > 1:
        raise ValueError(f"the file of inputs has bytes other than 0 and 1 for input {name}, which is bool")
    return values.reshape(shape)


def check_elements(elements):
    """Refuse too many inputs or outputs, and one of a type that is not known, by its name."""
    if len(elements) > MAX_TENSORS:
        raise ValueError(f"the model has more than {MAX_TENSORS} inputs or outputs")
    for element in elements:
        if element not in ELEMENTS:
            raise ValueError(f"a tensor of the model is {element}, none of {', '.join(ELEMENTS)}")


def output_sums(outputs):
    """Return how many numbers outputs hold, their sum and that of their absolute values; integers as they are."""
    check_elements([output.dtype.name for output in outputs])
    values = [output.astype("float64") for output in outputs]  # in int8 the absolute value of -128 is -128
    absolute = sum(float(abs(v).sum()) for v in values)
    if not math.isfinite(absolute):
        raise ValueError("the model computes NaN or infinity from its inputs")
    return sum(v.size for v in values), sum(float(v.sum()) for v in values), absolute


def test_input(shape, element):
    """Return the same pseudo-random input on every machine, in memory order.

    Floats lie between -0.5 and 0.5: the generator's top 24 bits. Integers are its top 8, 16 or 1 bits: int8 from -128,
    uint8 from 0, int16 from -32768, the others 0 or 1, so that they are indices of whatever has two entries.
    It is the linear congruential generator s' = a·s + c (mod 2^32), unrolled: s_k = a^k·s_0 + c·(a^(k-1) + … + 1), in
    blocks, so that little memory is taken besides the values.
    """
    import numpy

    check_elements([element])
    values = numpy.empty(int(numpy.prod(shape)), element)
    a, c, state = (numpy.uint32(v) for v in (1664525, 1013904223, 12345))
    block = max(min(values.size, 1 << 14), 1)
    powers = numpy.cumprod(numpy.full(block, a, numpy.uint32), dtype=numpy.uint32)
    sums = numpy.cumsum(numpy.concatenate([numpy.ones(1, numpy.uint32), powers[:-1]]), dtype=numpy.uint32)
    for start in range(0, values.size, block):
        states = powers * state + c * sums
        state = states[-1]
        if element in WHOLE:
            shift, offset = WHOLE[element]
            numbers = (states >> numpy.uint32(shift)).astype(numpy.int64) - offset
        else:
            numbers = (states >> numpy.uint32(8)).astype(numpy.float32) / numpy.float32(1 << 24) - numpy.float32(0.5)
        values[start : start + block] = numbers[: values.size - start]
    return values.reshape([int(side) for side in shape])


class Agent:
    """Answers one request after the other; `read` takes the bytes that follow one."""

    def __init__(self, threads, cores, memory_bytes, sys_folder, files, reply, read):
        self.threads = threads
        self.cores = cores
        self.memory_bytes = memory_bytes
        self.sys_folder = sys_folder
        self.files = files
        self.reply = reply
        self.read = read
        self.following = 0
        self.models = {}
        self.libc = ctypes.CDLL(None)

    def hello(self):
        """Say what this agent is and can do."""
        entries = [entry for folder in sys.path for entry in listed(folder or ".")]
        versions = {name: installed_version(runtime.packages, entries) for name, runtime in RUNTIMES.items()}
        self.reply(
            event="hello",
            protocol=PROTOCOL,
            agent=f"python {platform.python_version()}, agent.py sha256:{hash_of(self.files)}",
            runtimes={name: version for name, version in versions.items() if version},
            threads=self.threads,
            cores=allowed_cores(),
            clusters=clusters(self.sys_folder) or None,
            clocks=["wall", "thread_cpu"] if self.threads == 1 else ["wall"],
            overhead_ns=overhead_ns(),
            takes_inputs=True,
            soc=processor_name() or board(self.sys_folder) or platform.machine(),
            system=system_name(),
            device_model=device_model(self.sys_folder),
        )

    def answer(self, request):
        """Answer one request; return False after the last one."""
        number, operation = request.get("id"), request.get("op")
        if operation == "bye":
            self.reply(id=number, event="bye")
            return False
        handlers = {"write": self.write, "load": self.load, "run": self.run, "unload": self.unload, "state": self.state}
        handler = handlers.get(operation)
        if handler is None:
            known = ", ".join([*handlers, "bye"])
            self.reply(id=number, event="error", message=f"unknown operation {operation!r}; known: {known}")
            return True
        try:
            handler(number, request)
        except Exception as error:  # whatever a runtime throws is an answer, not the agent's end
            self.reply(id=number, event="error", message=f"{type(error).__name__}: {error}"[:2000])
        return True

    def write(self, number, request):
        """Write a file from pieces of files that are here and from the bytes that follow, checked by its hash."""
        self.following = checked_bytes(request["bytes"])
        try:
            write_file(request["path"], request["sha256"], self.blocks(request["pieces"]))
        finally:
            while self.following:  # so that the next line is one
                self.take(BLOCK_BYTES)
        self.reply(id=number, event="written")

    def blocks(self, pieces):
        """Yield the content of pieces in order: as many of the bytes that follow, or path, offset, how many."""
        if not isinstance(pieces, list) or len(pieces) > MAX_PIECES:
            raise ValueError(f"pieces are a list of at most {MAX_PIECES}")
        for piece in pieces:
            if isinstance(piece, list):
                path, offset, count = piece
                yield from file_blocks(path, checked_bytes(offset), checked_bytes(count))
            else:
                left = checked_bytes(piece)
                if left > self.following:
                    raise ValueError("the pieces take more bytes than follow the request")
                while left:
                    block = self.take(left)
                    left -= len(block)
                    yield block
        if self.following:
            raise ValueError("more bytes follow the request than the pieces take")

    def take(self, count):
        """Return some of the bytes that follow the request, at most so many."""
        block = self.read(min(count, self.following, BLOCK_BYTES))
        if not block:
            self.following = 0
            raise EOFError("the input ended")
        self.following -= len(block)
        return block

    def load(self, number, request):
        """Load a model, run it once, and say what came out."""
        runtime = RUNTIMES.get(request["runtime"])
        if runtime is None:
            raise ValueError(f"unknown runtime {request['runtime']!r}; known: {', '.join(RUNTIMES)}")
        self.check_memory(os.path.getsize(request["path"]))
        before, earlier = resident_bytes(), lowered_peak_bytes()
        start = time.perf_counter_ns()
        model = runtime(request["path"], self.threads, Inputs(request))
        loaded = time.perf_counter_ns()
        model.run()
        first_ns = time.perf_counter_ns() - loaded
        peak = peak_bytes()
        outputs = model.outputs()
        after = resident_bytes()
        self.check_memory(0)
        count, total, absolute = output_sums(outputs)
        self.models[request["model"]] = model
        self.reply(
            id=number,
            event="loaded",
            model=request["model"],
            load_ns=loaded - start,
            first_ns=first_ns,
            peak_bytes=None if before is None or peak is None or peak == earlier else max(peak - before, 0),
            memory_bytes=None if before is None or after is None else max(after - before, 0),
            outputs=count,
            output_sum=total,
            output_abs_sum=absolute,
        )

    def run(self, number, request):
        """Time a schedule of visits: each runs one model a few times in a row."""
        for index, visit in enumerate(request["schedule"]):
            model = self.models.get(visit["model"])
            if model is None:
                raise ValueError(f"visit {index}: model {visit['model']!r} is not loaded")
            runs = int(visit["runs"])
            wall_ns, cpu_ns = [0] * runs, [0] * runs
            run, wall, cpu = model.run, time.perf_counter_ns, time.thread_time_ns
            start_ns = wall()
            for i in range(runs):
                cpu_start = cpu()
                wall_start = wall()
                run()
                wall_end = wall()
                cpu_ns[i] = cpu() - cpu_start
                wall_ns[i] = wall_end - wall_start
            core = self.current_core()
            if self.cores and allowed_cores() != self.cores:  # hotplug and power management may do so
                raise RuntimeError("the system took the agent off the cores that it was bound to")
            self.reply(
                id=number,
                event="visit",
                index=index,
                model=visit["model"],
                start_ns=start_ns,
                wall_ns=wall_ns,
                cpu_ns=cpu_ns if self.threads == 1 else None,  # with more threads it is the caller's time only
                core=core,
                freq_khz=frequency_khz(core, self.sys_folder),
            )
        self.reply(id=number, event="done", visits=len(request["schedule"]))

    def unload(self, number, request):
        """Forget a model."""
        del self.models[request["model"]]
        self.reply(id=number, event="unloaded", model=request["model"])

    def state(self, number, request):
        """Say in which state the device is; null for what it does not tell, and which of it may not be read."""
        denied = set()
        freq_khz = frequencies_khz(self.sys_folder, denied)
        temperature_c = temperatures_c(self.sys_folder, denied)
        self.reply(
            id=number,
            event="state",
            core=self.current_core(),
            affinity=allowed_cores(),
            freq_khz=freq_khz,
            temperature_c=temperature_c,
            memory_available_bytes=available_bytes(),
            denied=sorted(denied),
        )

    def check_memory(self, more_bytes):
        """Refuse a model that does not fit into the memory the agent may take."""
        taken = resident_bytes()
        if self.memory_bytes and taken is not None and taken + more_bytes > self.memory_bytes:
            raise MemoryError(
                f"the model does not fit: the agent may take {self.memory_bytes} bytes and has {taken}; "
                "unload models first"
            )

    def current_core(self):
        """Return the core this thread runs on, None where the C library does not tell."""
        return self.libc.sched_getcpu() if hasattr(self.libc, "sched_getcpu") else None


def checked_bytes(value):
    """Return a number of bytes that a host sent."""
    if type(value) is not int or not 0 <= value <= MAX_FILE_BYTES:
        raise ValueError(f"{value!r:.100} is no number of bytes")
    return value


def open_regular(path):
    """Open a file to read it; whatever else it is, opening it does not wait."""
    if type(path) is not str:  # a number would be one of this process's own files
        raise ValueError(f"{path!r:.100} is no path")
    opener = lambda name, flags: os.open(name, flags | os.O_NONBLOCK)  # noqa: E731
    file = open(path, "rb", opener=opener)  # noqa: SIM115 - whoever asked for it closes it
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise ValueError(f"{path} is no file")
    return file


def file_blocks(path, offset, count):
    """Yield so many bytes of a file from an offset on."""
    with open_regular(path) as file:
        file.seek(offset)
        while count:
            block = file.read(min(count, BLOCK_BYTES))
            if not block:
                raise EOFError(f"{path}: a piece is beyond its end")
            count -= len(block)
            yield block


def write_file(path, sha256, blocks):
    """Write a file that only its owner may read; it gets its name when its content has this hash."""
    if type(path) is not str:
        raise ValueError(f"{path!r:.100} is no path")
    part = f"{path}.part"
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK
    handle = os.open(part, flags, 0o600)
    try:
        content = hashlib.sha256()
        with open(handle, "wb") as file:
            for block in blocks:
                content.update(block)
                file.write(block)
        if content.hexdigest() != sha256:
            raise ValueError(f"its SHA-256 is {content.hexdigest()}: a piece is damaged")
        os.replace(part, path)
    except BaseException:
        os.unlink(part)
        raise


def installed_version(packages, entries):
    """Return the version of the first package that is installed, without importing it; a stand-in is named.

    `entries` are the names of what lies in the folders of sys.path.
    """
    for package in packages:
        # Its metadata's folder tells: importlib.metadata says the same, and takes as long to import as all the rest.
        name = re.sub("[-_.]+", "[-_.]+", package)
        folder = re.compile(rf"{name}-([^-]+)(-py[0-9.]+)?\.(dist|egg)-info", re.IGNORECASE)
        for version in (found[1] for found in map(folder.fullmatch, entries) if found):
            return version if package == packages[0] else f"{version} ({package})"
    return None


def listed(folder):
    """Return the names of what lies in a folder, none where it is not there or may not be read."""
    try:
        return os.listdir(folder)
    except OSError:
        return []


def load_runtime(path):
    """Import a file that holds the class of a runtime."""
    spec = importlib.util.spec_from_file_location(f"runtime_{len(RUNTIMES)}", path)
    spec.loader.exec_module(importlib.util.module_from_spec(spec))


def hash_of(paths):
    """Return the beginning of the SHA-256 of the agent's files, so that a table tells which agent timed it."""
    content = hashlib.sha256()
    for path in paths:
        with open(path, "rb") as file:
            content.update(file.read())
    return content.hexdigest()[:12]


def read_text(path):
    """Return what a file of the system holds, nothing where it does not tell."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def android_property(name):
    """Return a property of an Android device, nothing where there is none or this is no Android."""
    if not any(os.access(f"{folder}/getprop", os.X_OK) for folder in os.get_exec_path()):
        return ""
    import subprocess  # only where it is needed: it takes as long to import as all the rest

    try:
        done = subprocess.run(["getprop", name], stdin=subprocess.DEVNULL, capture_output=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return ""
    value = done.stdout.decode(errors="replace").strip()
    return "" if value == "unknown" else value[:200]


def named(maker, model):
    """Return what Android calls a model, with its maker before it; nothing where it does not tell."""
    maker, model = android_property(maker), android_property(model)
    return f"{maker} {model}".strip() if model and not model.lower().startswith(maker.lower()) else model


def board(sys_folder):
    """Return what a board's device tree calls it, nothing where it does not tell."""
    return read_text(f"{sys_folder}/../proc/device-tree/model").strip("\0 \n")[:200]


def device_model(sys_folder):
    """Return what its maker calls the device, None where it does not tell."""
    return named("ro.product.manufacturer", "ro.product.model") or board(sys_folder) or None


def processor_name():
    """Return the processor's name as Android tells it, else as /proc/cpuinfo does, nothing where neither does."""
    soc = named("ro.soc.manufacturer", "ro.soc.model")
    soc = soc or android_property("ro.board.platform") or android_property("ro.hardware")
    name = re.search(r"^(?:model name|Hardware|Model)[ \t]*:(.*)", read_text("/proc/cpuinfo"), re.MULTILINE)
    return soc or (name[1].strip() if name else "")


def system_name():
    """Return the system's name and release, Android's before the kernel's."""
    kernel = f"{platform.system()} {platform.release()} {platform.machine()}"
    release, build = android_property("ro.build.version.release"), android_property("ro.build.id")
    return f"Android {release}{f' ({build})' if build else ''}, {kernel}" if release else kernel


def allowed_cores():
    """Return the cores this process may run on, None where the system does not tell."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None


def online_cores(sys_folder):
    """Return the cores that are switched on, in ascending order; a core without a file `online` cannot be off."""
    folder = f"{sys_folder}/devices/system/cpu"
    cores = sorted(int(name[3:]) for name in listed(folder) if re.fullmatch(r"cpu[0-9]{1,4}", name))
    return [core for core in cores if core < MAX_CORES and read_number(f"{folder}/cpu{core}/online") != 0]


def read_parts(sys_folder):
    """Return implementer and part of every core, as in MIDR_EL1 (`41d03`), by core; /proc/cpuinfo has none on x86."""
    found, told = {}, {}
    for line in read_text(f"{sys_folder}/../proc/cpuinfo").splitlines():
        name, _, value = (text.strip() for text in line.partition(":"))
        told[name] = value.replace("0x", "")
        if name == "CPU part":
            found[told.get("processor")] = f"{told.get('CPU implementer')}{told[name]:0>3}"
    return found


def family_of(core, folder, parts):
    """Return 1 for a little core of Arm's, 2 for a middle one, 3 for a big one, 0 for one that is not known."""
    try:
        midr = int(read_text(f"{folder}/cpu{core}/regs/identification/midr_el1"), 16)
        part = f"{midr >> 24 & 0xFF:x}{midr >> 4 & 0xFFF:03x}"
    except ValueError:
        part = parts.get(str(core))
    return next((number for number, family in enumerate(FAMILIES, start=1) if part in family.split()), 0)


def of_all(values):
    """Return numbers above 0, or as many zeros where not every one of them is known."""
    known = [max(value or 0, 0) for value in values]
    return known if all(known) else [0] * len(known)


def clusters(sys_folder):
    """Return the cores that are on by what they can do, the weakest first; a core that tells nothing is in none.

    Capacity decides, or else Arm's family, or else the highest clock; the first two only where every core tells them,
    and not a capacity that is the same for all: so it is too where the system does not know it.
    """
    folder = f"{sys_folder}/devices/system/cpu"
    cores, parts, found = online_cores(sys_folder), read_parts(sys_folder), {}
    capacities = of_all(read_number(f"{folder}/cpu{core}/cpu_capacity") for core in cores)
    if len(set(capacities)) == 1:
        capacities = [0] * len(cores)
    families = of_all(family_of(core, folder, parts) for core in cores)
    for core, capacity, family in zip(cores, capacities, families):  # noqa: B905 - Python 3.9 has no strict
        max_khz = max(read_number(f"{folder}/cpu{core}/cpufreq/cpuinfo_max_freq") or 0, 0)
        if capacity or family or max_khz:
            found.setdefault((capacity, family, max_khz), []).append(core)
    return [{"capacity": kind[0] or None, "max_khz": kind[2] or None, "cores": found[kind]} for kind in sorted(found)]


def named_cores(text, sys_folder):
    """Return the cores that are meant, separated by commas: words, numbers and ranges, hexadecimal masks."""
    cores = set()
    for part in text.split(","):
        found = worded_cores(part, sys_folder) if part in WORDS else numbered_cores(part)
        if not found:
            raise ValueError(f"cores are {', '.join(WORDS)}, numbers such as 0-3,6 or a mask, not {text!r}")
        cores |= set(found)
    return sorted(cores)


def worded_cores(word, sys_folder):
    """Return the cores that are big, middle, little or all. Where there is one kind, all are big and none is little."""
    if word == "all":
        cores = online_cores(sys_folder)
        if not cores:
            raise ValueError(f"{sys_folder}/devices/system/cpu lists no cores; name them by numbers, such as 0-3")
        return cores
    found = [cluster["cores"] for cluster in clusters(sys_folder)]
    if not found:
        raise ValueError(
            f"no core under {sys_folder}/devices/system/cpu tells its capacity, its part or its highest clock, "
            f"so which are {word} is not known; name them by numbers, such as 4-7"
        )
    if len(found) < {"big": 1, "little": 2, "middle": 3}[word]:
        raise ValueError(f"there are no {word} cores: the device tells {len(found)} cluster{'s'[len(found) < 2 :]}")
    chosen = {"big": found[-1:], "middle": found[1:-1], "little": found[:1]}[word]
    return [core for cores in chosen for core in cores]


def numbered_cores(text):
    """Return the cores of a number, a range such as 0-3, or a hexadecimal mask; none where it is neither."""
    if re.fullmatch(r"0x[0-9a-fA-F]{1,256}", text):
        return [core for core in range(MAX_CORES) if int(text, 16) >> core & 1]
    ends = re.fullmatch(r"([0-9]{1,4})(?:-([0-9]{1,4}))?", text)
    first, last = (int(ends[1]), int(ends[2] or ends[1])) if ends else (1, 0)
    return range(first, last + 1) if first <= last < MAX_CORES else []


def bind(text, sys_folder):
    """Bind this process to the cores that are meant, and return those that it may run on then."""
    cores = named_cores(text, sys_folder)
    numbers = ",".join(map(str, cores))
    asked = f"{numbers} ({text})" if set(text.split(",")) & set(WORDS) else numbers
    try:
        os.sched_setaffinity(0, cores)
    except OSError as error:
        raise ValueError(f"cannot bind to cores {asked}: {error.strerror}") from None
    except AttributeError:
        raise ValueError(f"cannot bind to cores {asked}: this system binds no process to cores") from None
    return allowed_cores()


def overhead_ns():
    """Return the median of samples of nothing: what the clock adds to every sample."""
    samples = []
    for _ in range(1001):
        start = time.perf_counter_ns()
        nothing()
        samples.append(time.perf_counter_ns() - start)
    return sorted(samples)[500]


def nothing():
    """Stand in for a model's run."""


def read_number(path, field=None, denied=None):
    """Return the number that a file of the system holds, None where it does not tell; add `field` if it is denied."""
    try:
        with open(path, encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError) as error:
        if isinstance(error, PermissionError) and denied is not None:
            denied.add(field)
        return None


def frequency_khz(core, sys_folder="/sys", denied=None):
    """Return a core's current frequency, None where the system does not tell."""
    path = f"{sys_folder}/devices/system/cpu/cpu{core}/cpufreq/scaling_cur_freq"
    return read_number(path, "freq_khz", denied)


def frequencies_khz(sys_folder="/sys", denied=None):
    """Return the frequency of every core by its number, None where the system does not tell."""
    cores = range(os.cpu_count() or 1)
    found = {str(core): frequency_khz(core, sys_folder, denied) for core in cores}
    return {core: khz for core, khz in found.items() if khz is not None} or None


def temperatures_c(sys_folder="/sys", denied=None):
    """Return the temperature of every thermal zone and battery by its name, None where the system does not tell."""
    found = {}
    for folder, prefix in (("class/thermal", "thermal_zone"), ("class/power_supply", "")):
        try:
            entries = [name for name in sorted(os.listdir(f"{sys_folder}/{folder}")) if name.startswith(prefix)]
        except OSError as error:
            entries = []
            if isinstance(error, PermissionError) and denied is not None:
                denied.add("temperature_c")
        for entry in entries:
            value = read_number(f"{sys_folder}/{folder}/{entry}/temp", "temperature_c", denied)
            try:
                with open(f"{sys_folder}/{folder}/{entry}/type", encoding="ascii") as file:
                    name = f"{entry} {file.read().strip()}"
            except (OSError, ValueError):
                name = entry
            if value is None:
                continue
            if prefix:
                found[name] = value / 1000 if abs(value) >= 1000 else float(value)  # a few vendors give degrees
            else:
                found[name] = value / 10
    return found or None


def resident_bytes():
    """Return how much memory this process occupies, None where the system does not tell."""
    pages = re.match(r"[0-9]+ ([0-9]+)", read_text("/proc/self/statm"))
    return int(pages[1]) * os.sysconf("SC_PAGE_SIZE") if pages else None


def peak_bytes():
    """Return the most memory this process has occupied since it began or the peak was lowered, None where not told."""
    kilobytes = re.search(r"^VmHWM:[ \t]*([0-9]+)", read_text("/proc/self/status"), re.MULTILINE)
    return int(kilobytes[1]) * 1024 if kilobytes else None


def lowered_peak_bytes():
    """Lower the peak to what is occupied now, and return None; where that is not allowed, return the peak as it is."""
    try:
        with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
            file.write("5")
    except OSError:
        return peak_bytes()
    return None


def available_bytes():
    """Return how much memory is left for new work, None where the system does not tell."""
    kilobytes = re.search(r"^MemAvailable: *([0-9]+)", read_text("/proc/meminfo"), re.MULTILINE)
    return int(kilobytes[1]) * 1024 if kilobytes else None


def read_lines(file):
    """Yield line by line; None for one that is too long."""
    whole = True
    while line := file.readline(MAX_LINE_BYTES):
        ends = line.endswith(b"\n")
        if whole:
            yield line if ends or len(line) < MAX_LINE_BYTES else None
        whole = ends


def end_when_alone():
    """End once the input has ended and whoever started this is gone: a model without end would run on for nobody."""
    parent = os.getppid()
    hung_up = select.poll()
    hung_up.register(0, 0)
    hung_up.poll()
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(4)


def main():
    """Answer requests until the input ends."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cores", help="bind to these cores: big,middle, little, all, 0-3,6 or 0xf0")
    parser.add_argument("--deadline-s", type=float, help="end by itself after so many seconds")
    parser.add_argument("--memory-bytes", type=int, help="load no model beyond this size of the process")
    parser.add_argument("--sys", default="/sys", help="the folder of the system's files")
    parser.add_argument("--runtime", action="append", default=[], help="a file with one more runtime's class")
    options = parser.parse_args()

    # Replies get a stdout of their own: whatever a runtime prints goes to stderr and cannot garble the protocol.
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def reply(**message):
        replies.write(json.dumps(message, separators=(",", ":")) + "\n")
        replies.flush()

    if options.deadline_s:
        timer = threading.Timer(options.deadline_s, os._exit, [4])
        timer.daemon = True
        timer.start()
    threading.Thread(target=end_when_alone, daemon=True).start()
    try:
        cores = bind(options.cores, options.sys) if options.cores is not None else None
    except ValueError as error:
        reply(event="error", message=str(error))
        return 3
    for path in options.runtime:
        load_runtime(path)
    files = [__file__, *options.runtime]
    agent = Agent(options.threads, cores, options.memory_bytes, options.sys, files, reply, sys.stdin.buffer.read)
    agent.hello()
    for line in read_lines(sys.stdin.buffer):
        try:
            if line is None:
                raise ValueError(f"longer than {MAX_LINE_BYTES} bytes")
            request = json.loads(line.decode())
            if not isinstance(request, dict):
                raise ValueError("a request is an object")
        except (ValueError, RecursionError) as error:
            reply(id=None, event="error", message=f"not a request: {error}")
            continue
        if not agent.answer(request):
            break
    return 0


if __name__ == "__main__":
    try:
        code = main()
        sys.stdout.flush()
    except BrokenPipeError:  # the host is gone: nobody to answer
        code = 3
    os._exit(code)  # skip the runtimes' exit handlers, which can hang with threads alive
