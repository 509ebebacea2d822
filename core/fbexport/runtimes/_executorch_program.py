"""ExecuTorch programs by the libraries of its package, without torch; the Python agent is sent this file.

Those libraries speak C++ alone, so that a shim gives them a C interface: it is compiled when a first program is loaded,
by the system's compiler, and kept in the cache. It stands in here because a runtime's file for agents is one.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import importlib.metadata
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

PACKAGE = "executorch"
LIBRARIES = ("executorch_backend_xnnpack", "executorch", "executorch_threadpool")
KERNELS = ("executorch_kernels_optimized", "executorch_kernels_quantized")
"""Of operators outside delegates; loaded for programs that have some."""
FLAGS = (
    "-O2", "-std=c++17", "-fPIC", "-shared", "-s", "-fvisibility=hidden", "-fno-exceptions", "-fno-rtti",
    # Those that the package was built with: its classes have other sizes without.
    "-DC10_USING_CUSTOM_GENERATED_MACROS", "-DET_EVENT_TRACER_ENABLED",
    "-I{site}/executorch/include", "-I{site}/executorch/include/executorch/runtime/core/portable_type/c10",
    # Backends register themselves when they are loaded: none of their symbols is needed.
    "-L{site}/executorch/lib", "-Wl,-rpath,{libraries}", "-Wl,--no-as-needed", *(f"-l{name}" for name in LIBRARIES),
    "-ldl",
)  # fmt: skip
"""With `site`, where the package lies, and `libraries`, where its libraries will lie."""
BUILD_TIMEOUT_S = 100
"""Less than a host waits for a model to be loaded."""
MAX_RANK = 8
ELEMENTS = {
    0: "uint8", 1: "int8", 2: "int16", 3: "int32", 4: "int64", 5: "float16", 6: "float32", 7: "float64", 11: "bool",
}  # fmt: skip
SHIM = r"""
#include <executorch/extension/data_loader/file_data_loader.h>
#include <executorch/extension/memory_allocator/malloc_memory_allocator.h>
#include <executorch/extension/threadpool/threadpool_guard.h>
#include <executorch/runtime/executor/method.h>
#include <executorch/runtime/executor/program.h>
#include <executorch/runtime/platform/platform.h>
#include <executorch/runtime/platform/runtime.h>
#include <dlfcn.h>
#include <cstdio>
#include <cstring>
#include <memory>
#include <optional>
#include <vector>

// The package has no header of its thread pool; this declares what is called of it.
namespace executorch::extension::threadpool {
class ThreadPool {
 public:
  size_t get_thread_count() const;
  bool _unsafe_reset_threadpool(uint32_t threads);
};
ThreadPool* get_threadpool();
}

using namespace executorch::runtime;
namespace ext = executorch::extension;
namespace aten = executorch::aten;
#define API extern "C" __attribute__((visibility("default")))

namespace {
char failure[512];
char logged[400];  // the last error that the runtime logged, which says more than its number
int pooled = 0;    // models that hold on to the thread pool
Error wrong = Error::Ok;

int failed(const char* what, Error error) {
  wrong = error;
  std::snprintf(failure, sizeof failure, "%s (error 0x%x)%s%s", what, (unsigned)error, logged[0] ? ": " : "", logged);
  return -1;
}
int failed(const char* what) { std::snprintf(failure, sizeof failure, "%s", what); return -1; }

void log(et_timestamp_t, et_pal_log_level_t level, const char*, const char*, size_t, const char* text, size_t size) {
  if (level == et_pal_log_level_t::kError || level == et_pal_log_level_t::kFatal)
    std::snprintf(logged, sizeof logged, "%.*s", (int)size, text);
}

struct Input {
  std::vector<aten::SizesType> sizes;
  std::vector<aten::DimOrderType> order;
  std::vector<aten::StridesType> strides;
  std::vector<uint8_t> bytes;
  aten::ScalarType type;
};

// Copies a tensor from where its dimensions lie in their order to where they lie as the strides say, or (`out`) back.
void arrange(bool out, size_t rank, const aten::SizesType* sizes, const aten::StridesType* strides, size_t width,
             uint8_t* there, uint8_t*& plain) {
  if (rank == 0) {
    std::memcpy(out ? plain : there, out ? there : plain, width);
    plain += width;
    return;
  }
  for (aten::SizesType i = 0; i < *sizes; i++)
    arrange(out, rank - 1, sizes + 1, strides + 1, width, there + i * *strides * width, plain);
}

// Loads the kernels of operators outside delegates.
bool load_kernels() {
  for (const char* name : {KERNELS})
    if (!dlopen(name, RTLD_NOW | RTLD_LOCAL)) return false;
  return true;
}
}

struct Model {
  bool alone = false;
  std::unique_ptr<ext::FileDataLoader> loader;
  std::unique_ptr<Program> program;
  ext::MallocMemoryAllocator method_memory, temporary_memory;
  std::vector<std::vector<uint8_t>> planned;
  std::vector<Span<uint8_t>> spans;
  std::unique_ptr<HierarchicalAllocator> hierarchy;
  std::unique_ptr<MemoryManager> memory;
  std::unique_ptr<Method> method;
  std::vector<std::unique_ptr<Input>> inputs;
};

static int load(const char* path, Model* m) {
  auto loader = ext::FileDataLoader::from(path);
  if (!loader.ok()) return failed("cannot open the file", loader.error());
  m->loader = std::make_unique<ext::FileDataLoader>(std::move(*loader));
  auto program = Program::load(m->loader.get(), Program::Verification::InternalConsistency);
  if (!program.ok()) return failed("no program that this ExecuTorch reads", program.error());
  m->program = std::make_unique<Program>(std::move(*program));
  auto name = m->program->get_method_name(0);
  if (!name.ok()) return failed("the program has no method", name.error());
  auto meta = m->program->method_meta(*name);
  if (!meta.ok()) return failed("its method cannot be read", meta.error());
  for (size_t i = 0; i < meta->num_memory_planned_buffers(); i++) {
    auto size = meta->memory_planned_buffer_size(i);
    if (!size.ok() || *size < 0) return failed("its memory cannot be planned");
    m->planned.emplace_back((size_t)*size);
  }
  for (auto& buffer : m->planned) m->spans.push_back({buffer.data(), buffer.size()});
  m->hierarchy = std::make_unique<HierarchicalAllocator>(Span<Span<uint8_t>>{m->spans.data(), m->spans.size()});
  m->memory = std::make_unique<MemoryManager>(&m->method_memory, m->hierarchy.get(), &m->temporary_memory);
  auto method = m->program->load_method(*name, m->memory.get());
  if (!method.ok()) return failed("cannot load", method.error());
  m->method = std::make_unique<Method>(std::move(*method));
  for (size_t i = 0; i < meta->num_inputs(); i++) {
    auto info = meta->input_tensor_meta(i);
    if (!info.ok() || info->sizes().size() > 8) return failed("an input is no tensor of up to 8 dimensions");
    auto input = std::make_unique<Input>();
    input->sizes.assign(info->sizes().begin(), info->sizes().end());
    input->order.assign(info->dim_order().begin(), info->dim_order().end());
    input->type = info->scalar_type();
    input->bytes.resize(info->nbytes());
    input->strides.resize(input->sizes.size());
    aten::StridesType stride = 1;
    for (size_t k = input->order.size(); k-- > 0; stride *= input->sizes[input->order[k]])
      input->strides[input->order[k]] = stride;
    m->inputs.push_back(std::move(input));
  }
  return 0;
}

API const char* fb_error() { return failure; }

API void fb_free(Model* m) {
  if (m && !m->alone) pooled--;
  delete m;
}

// A model of one thread runs in its caller's. Others share the process's pool and keep a bare pointer to it, so that it
// can have another size only while there is no such model.
API Model* fb_load(const char* path, int threads) {
  static const bool started = (register_pal(PalImpl::create(log, "fbnet-lab")), runtime_init(), true);
  (void)started;
  logged[0] = 0;
  bool alone = threads == 1;
  std::optional<ext::threadpool::NoThreadPoolGuard> guard;
  if (alone) guard.emplace();
  else {
    auto* pool = ext::threadpool::get_threadpool();
    if (!pool) return failed("there is no thread pool"), nullptr;
    if (pool->get_thread_count() != (size_t)threads) {
      if (pooled) return failed("models of another number of threads are loaded"), nullptr;
      if (!pool->_unsafe_reset_threadpool(threads)) return failed("the thread pool cannot be resized"), nullptr;
    }
  }
  std::unique_ptr<Model> m;
  for (bool again = true;; again = false) {
    m = std::make_unique<Model>();
    m->alone = alone;
    wrong = Error::Ok;
    if (!load(path, m.get())) break;
    if (!again || wrong != Error::OperatorMissing || !load_kernels()) return nullptr;
  }
  if (!alone) pooled++;
  return m.release();
}

API int fb_count(Model* m, int outputs) { return outputs ? m->method->outputs_size() : m->method->inputs_size(); }

// Returns the number of dimensions.
API int fb_tensor(Model* m, int outputs, int i, int64_t* sizes, int* type) {
  if (!outputs) {
    Input& input = *m->inputs[i];
    for (size_t k = 0; k < input.sizes.size(); k++) sizes[k] = input.sizes[k];
    *type = (int)input.type;
    return input.sizes.size();
  }
  const auto& value = m->method->get_output(i);
  if (!value.isTensor() || value.toTensor().dim() > 8) return failed("an output is no tensor of up to 8 dimensions");
  auto t = value.toTensor();
  for (int k = 0; k < (int)t.dim(); k++) sizes[k] = t.size(k);
  *type = (int)t.scalar_type();
  return t.dim();
}

// Values are given, and gotten below, in the order of the dimensions, however these lie in memory.
API int fb_set(Model* m, int i, const void* data) {
  logged[0] = 0;
  Input& input = *m->inputs[i];
  size_t rank = input.sizes.size(), count = 1;
  for (auto size : input.sizes) count *= size;
  auto* plain = (uint8_t*)data;
  if (count) arrange(false, rank, input.sizes.data(), input.strides.data(), input.bytes.size() / count,
                     input.bytes.data(), plain);
  aten::TensorImpl impl(input.type, rank, input.sizes.data(), input.bytes.data(), input.order.data(),
                        input.strides.data());
  Error error = m->method->set_input(EValue(aten::Tensor(&impl)), i);
  return error == Error::Ok ? 0 : failed("an input is refused", error);
}

API int fb_run(Model* m) {
  std::optional<ext::threadpool::NoThreadPoolGuard> guard;
  if (m->alone) guard.emplace();
  Error error = m->method->execute();
  return error == Error::Ok ? 0 : failed("cannot run", error);
}

API void fb_get(Model* m, int i, void* data) {
  auto t = m->method->get_output(i).toTensor();
  auto* plain = (uint8_t*)data;
  if (t.numel()) arrange(true, t.dim(), t.sizes().data(), t.strides().data(), t.nbytes() / t.numel(),
                         (uint8_t*)t.const_data_ptr(), plain);
}
""".replace("{KERNELS}", "{" + ", ".join(f'"lib{name}.so"' for name in KERNELS) + "}")


class Program:
    """A loaded program: `inputs` are shape and element of each, `run()` runs it once. Raises ValueError in words."""

    def __init__(self, path: str, threads: int) -> None:
        self.handle: Any = None
        self.library = shim()
        self.handle = self.library.fb_load(os.fsencode(path), threads)
        self.check(0 if self.handle else -1)
        count = self.library.fb_count(self.handle, 0)
        self.inputs: list[tuple[list[int], str]] = [self.tensor(0, number) for number in range(count)]

    def __del__(self) -> None:
        if self.handle:
            self.library.fb_free(self.handle)

    def check(self, code: int) -> None:
        """Raise what the shim tells where it failed."""
        if code < 0:
            raise ValueError(self.library.fb_error().decode(errors="replace"))

    def tensor(self, is_output: int, number: int) -> tuple[list[int], str]:
        """Return shape and element of an input or output."""
        sizes, kind = (ctypes.c_int64 * MAX_RANK)(), ctypes.c_int()
        rank = self.library.fb_tensor(self.handle, is_output, number, sizes, ctypes.byref(kind))
        self.check(rank)
        if kind.value not in ELEMENTS:
            raise ValueError(f"a tensor of the program is of ExecuTorch's type {kind.value}, which is not known")
        return list(sizes[:rank]), ELEMENTS[kind.value]

    def feed(self, arrays: Any) -> None:
        """Set the inputs, of the shapes and elements of `inputs`."""
        import numpy

        for number, array in enumerate(arrays):
            data = numpy.ascontiguousarray(array)
            self.check(self.library.fb_set(self.handle, number, data.ctypes.data_as(ctypes.c_void_p)))

    def run(self) -> None:
        """Run the program once."""
        if self.library.fb_run(self.handle):
            self.check(-1)

    def outputs(self) -> list[Any]:
        """Return the outputs of the last run as arrays of the shapes that the program says."""
        import numpy

        found = []
        for number in range(self.library.fb_count(self.handle, 1)):
            data = numpy.empty(*self.tensor(1, number))
            self.library.fb_get(self.handle, number, data.ctypes.data_as(ctypes.c_void_p))
            found.append(data)
        return found


@functools.lru_cache(maxsize=1)
def shim() -> Any:
    """Return the shim, compiled unless the cache has it."""
    found = importlib.metadata.distribution(PACKAGE)
    site = str(found.locate_file(""))
    compilers = (os.environ.get("CXX"), "c++", "g++", "clang++")
    compiler = next((where for name in compilers if name and (where := shutil.which(name))), None)
    if compiler is None:
        raise ValueError("ExecuTorch's libraries are for C++, and no compiler is found: apt install g++, or set CXX")
    flags = [flag.format(site=site, libraries=f"{site}/executorch/lib") for flag in FLAGS]
    made_of = (SHIM, compiler, flags, found.version)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fbnet-lab"
    path = cache / f"executorch-{hashlib.sha256(repr(made_of).encode()).hexdigest()[:12]}.so"
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".build-", dir=cache) as work:
            source, built = Path(work) / "shim.cpp", Path(work) / "shim.so"
            source.write_text(SHIM, encoding="utf-8")
            argv = [compiler, *flags, str(source), "-o", str(built)]
            done = subprocess.run(argv, capture_output=True, text=True, errors="replace", timeout=BUILD_TIMEOUT_S)
            if done.returncode:
                raise ValueError(f"{compiler} cannot compile for ExecuTorch {found.version}: {done.stderr[-1000:]}")
            built.replace(path)
    library = ctypes.CDLL(str(path))
    pointer, text, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
    library.fb_error.restype = text
    library.fb_load.restype, library.fb_free.restype = pointer, None
    library.fb_load.argtypes, library.fb_free.argtypes = [text, number], [pointer]
    library.fb_count.argtypes, library.fb_run.argtypes = [pointer, number], [pointer]
    library.fb_tensor.argtypes = [pointer, number, number, pointer, pointer]
    library.fb_set.argtypes = library.fb_get.argtypes = [pointer, number, pointer]
    return library


if hasattr(sys.modules["__main__"], "Runtime"):  # this is the agent

    class ExecuTorch(sys.modules["__main__"].Runtime):  # type: ignore[misc]  # known where it runs
        """ExecuTorch programs; inputs of N, C, H, W, in memory as the program says."""

        name = "executorch"
        packages = (PACKAGE,)

        def __init__(self, path: str, threads: int, inputs: Any) -> None:
            program = Program(path, threads)
            count = len(program.inputs)
            found = [
                ("input" if count == 1 else f"input_{number}", *tensor) for number, tensor in enumerate(program.inputs)
            ]
            program.feed(inputs.values(found))
            self.run, self.outputs = program.run, program.outputs
