"""The C interface that libtorch, which speaks C++ alone, gets for the native agent, and how it is compiled."""

FLAGS = (
    "-O2", "-std=c++17", "-fPIC", "-shared", "-s", "-fvisibility=hidden", "-D_GLIBCXX_USE_CXX11_ABI=1", "-w",
    "-I{site}/torch/include", "-I{site}/torch/include/torch/csrc/api/include",
    "-L{site}/torch/lib", "-Wl,--no-as-needed", "-l:libtorch_cpu.so", "-l:libc10.so", "-Wl,--allow-shlib-undefined",
    "-Wl,-rpath,{libraries}",
)  # fmt: skip
"""With `site`, where the package lies, and `libraries`, where its libraries will lie."""
SHIM = r"""
#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <c10/core/InferenceMode.h>
#include <c10/util/Exception.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/serialization/import.h>
#include <torch/version.h>
#include <fcntl.h>
#include <unistd.h>
#include <cstdio>
#include <cstring>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#define API extern "C" __attribute__((visibility("default")))

namespace {
char failure[1000];

struct Model {
  torch::jit::Module module;
  std::vector<c10::IValue> inputs;
  c10::IValue result;
  std::vector<at::Tensor> outputs;
  bool has_run = false;
};

// Keeps the line that says most: the first, but of what the interpreter reports, a trace and then the reason, the last.
int failed(std::string text) {
  bool is_trace = text.find("Traceback of TorchScript") != std::string::npos;
  text.erase(text.find_last_not_of(" \n\r\t") + 1);
  size_t at = is_trace ? text.rfind('\n') + 1 : text.find_first_not_of(" \n\r\t");
  if (at == std::string::npos) at = 0;
  std::snprintf(failure, sizeof failure, "%s", text.substr(at, text.find('\n', at) - at).c_str());
  return -1;
}

template <class F> int guarded(F&& body) {
  try {
    return body();
  } catch (const c10::Error& error) {
    return failed(error.what_without_backtrace());
  } catch (const std::exception& error) {
    return failed(error.what());
  } catch (...) {
    return failed("an exception of no known type");
  }
}

struct Silent : c10::WarningHandler {
  void process(const c10::Warning&) override {}
} silent;

// Libraries below print about the processor when they are first used: stderr is closed to them meanwhile.
struct Quiet {
  int kept = dup(2);
  Quiet() {
    std::fflush(stderr);
    int none = open("/dev/null", O_WRONLY);
    if (kept >= 0 && none >= 0) dup2(none, 2);
    if (none >= 0) close(none);
  }
  ~Quiet() {
    if (kept < 0) return;
    dup2(kept, 2);
    close(kept);
  }
};

void flatten(const c10::IValue& value, std::vector<at::Tensor>& into) {
  if (value.isTensor()) {
    at::Tensor tensor = value.toTensor();
    into.push_back((tensor.is_mkldnn() ? tensor.to_dense() : tensor).contiguous());
  } else if (value.isTuple()) {
    for (const auto& part : value.toTupleRef().elements()) flatten(part, into);
  } else if (value.isList()) {
    for (const c10::IValue& part : value.toList()) flatten(part, into);
  } else if (value.isGenericDict()) {
    for (const auto& part : value.toGenericDict()) flatten(part.value(), into);
  } else {
    throw std::runtime_error("an output of the model is no tensor, it is " + value.type()->str());
  }
}
}

API const char* fb_error() { return failure; }
API const char* fb_version() { return TORCH_VERSION; }
API void fb_free(Model* m) { delete m; }

API Model* fb_load(const char* path, int threads) {
  Quiet quiet;
  auto m = std::make_unique<Model>();
  return guarded([&] {
    c10::WarningUtils::set_warning_handler(&silent);
    at::set_num_threads(threads);
    m->module = torch::jit::load(path, c10::Device(c10::kCPU));
    m->module.eval();
    auto frozen = torch::jit::freeze(m->module);
    m->module = torch::jit::optimize_for_inference(frozen);
    return 0;
  }) ? nullptr : m.release();
}

// Appends an input; an argument that is a number takes the tensor's.
API int fb_set(Model* m, const int64_t* sizes, int rank, int element, const void* values) {
  return guarded([&] {
    const auto& arguments = m->module.type()->getMethod("forward").getSchema().arguments();
    at::Tensor tensor = at::empty(c10::IntArrayRef(sizes, rank), (at::ScalarType)element);
    std::memcpy(tensor.mutable_data_ptr(), values, tensor.nbytes());
    size_t at = m->inputs.size() + 1;  // behind self
    if (at >= arguments.size() || arguments[at].type()->str().find("Tensor") != std::string::npos)
      m->inputs.emplace_back(tensor);
    else
      m->inputs.emplace_back(tensor.item());
    return 0;
  });
}

API int fb_run(Model* m) {
  std::optional<Quiet> quiet;
  if (!m->has_run) quiet.emplace();
  m->has_run = true;
  return guarded([&] {
    c10::InferenceMode on;
    m->result = m->module.forward(m->inputs);
    return 0;
  });
}

// Returns how many tensors the last run gave.
API int fb_count(Model* m) {
  return guarded([&] {
    c10::InferenceMode on;
    m->outputs.clear();
    flatten(m->result, m->outputs);
    return (int)m->outputs.size();
  });
}

API const void* fb_output(Model* m, int i, int64_t* count, int* element) {
  *count = m->outputs[i].numel();
  *element = (int)m->outputs[i].scalar_type();
  return m->outputs[i].const_data_ptr();
}
"""
