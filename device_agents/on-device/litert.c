/* TensorFlow Lite models (NHWC) by LiteRT's compiled-model interface, found in libLiteRt at run time.
 * There are no headers to build against: what is called is declared here as ai-edge-litert 2.3.0 has it. Signatures
 * have changed between releases (before 2.3 LiteRtCreateModelFromFile took no environment).                          */
#include "failure.h"
#include "runtimes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CPU = 1, LOCK_READ = 0, LOCK_WRITE = 1 };

/* LiteRtElementType's names in the order of its numbers. */
static const char *const element_names[] = {
    "untyped", "float32", "int32",      "uint8",  "int64",    "string",  "bool",   "int16",  "complex64", "int8",
    "float16", "float64", "complex128", "uint64", "resource", "variant", "uint32", "uint16", "int4",      NULL};

typedef struct {
  unsigned rank : 7, has_strides : 1;
  int32_t sides[MAX_RANK];
  uint32_t strides[MAX_RANK];
} Layout;

typedef struct {
  int element;
  Layout layout;
} TensorType;

#define FUNCTIONS(F)                                                                                                   \
  F(int, CreateEnvironment, (int count, const void *options, void **environment))                                      \
  F(int, CreateModelFromFile, (void *environment, const char *path, void **model))                                     \
  F(int, CreateOptions, (void **options))                                                                              \
  F(int, SetOptionsHardwareAccelerators, (void *options, int accelerators))                                            \
  F(int, CreateOpaqueOptions, (const char *kind, void *toml, void (*destroy)(void *), void **opaque))                  \
  F(int, AddOpaqueOptions, (void *options, void *opaque))                                                              \
  F(int, CreateCompiledModel, (void *environment, void *model, void *options, void **compiled))                        \
  F(int, GetModelSignature, (void *model, size_t index, void **signature))                                             \
  F(int, GetNumSignatureInputs, (void *signature, size_t *count))                                                      \
  F(int, GetNumSignatureOutputs, (void *signature, size_t *count))                                                     \
  F(int, GetSignatureSubgraph, (void *signature, void **subgraph))                                                     \
  F(int, GetNumSubgraphInputs, (void *subgraph, size_t *count))                                                        \
  F(int, GetSubgraphInput, (void *subgraph, size_t index, void **tensor))                                              \
  F(int, GetTensorName, (void *tensor, const char **name))                                                             \
  F(int, GetSignatureInputTensorByIndex, (void *signature, size_t index, void **tensor))                               \
  F(int, GetSignatureOutputTensorByIndex, (void *signature, size_t index, void **tensor))                              \
  F(int, GetRankedTensorType, (void *tensor, TensorType *type))                                                        \
  F(int, GetCompiledModelInputBufferRequirements, (void *compiled, size_t signature, size_t index, void **needs))      \
  F(int, GetCompiledModelOutputBufferRequirements, (void *compiled, size_t signature, size_t index, void **needs))     \
  F(int, GetCompiledModelOutputTensorLayouts,                                                                          \
    (void *compiled, size_t signature, size_t count, Layout *layouts, bool update))                                    \
  F(int, CreateManagedTensorBufferFromRequirements,                                                                    \
    (void *environment, const TensorType *type, void *needs, void **buffer))                                           \
  F(int, GetTensorBufferPackedSize, (void *buffer, size_t *bytes))                                                     \
  F(int, LockTensorBuffer, (void *buffer, void **values, int mode))                                                    \
  F(int, UnlockTensorBuffer, (void *buffer))                                                                           \
  F(int, RunCompiledModel,                                                                                             \
    (void *compiled, size_t signature, size_t inputs, void **input, size_t outputs, void **output))                    \
  F(void, DestroyTensorBuffer, (void *buffer))                                                                         \
  F(void, DestroyCompiledModel, (void *compiled))                                                                      \
  F(void, DestroyOptions, (void *options))                                                                             \
  F(void, DestroyModel, (void *model))

#define DECLARE(type, name, arguments) static type(*name) arguments;
FUNCTIONS(DECLARE)

static void *environment;

/* Calls a function; where it fails, keeps its name and status as the failure and is false. */
#define OK(name, ...) succeeded(name(__VA_ARGS__), #name)

static bool succeeded(int status, const char *name) {
  return status == 0 || fail("LiteRt%s failed with status %d", name, status);
}

static bool open_litert(void *library) {
#define FIND(type, name, arguments) if (!find_function(library, "LiteRt" #name, &name, sizeof name)) return false;
  FUNCTIONS(FIND)
  return true;
}

typedef struct {
  Model base;
  void *file, *options, *compiled;
  void *buffers[2][MAX_TENSORS]; /* inputs, outputs */
  Tensor outputs[MAX_TENSORS];   /* as LiteRT makes them of the inputs' shapes */
  size_t counts[2];
} LiteRtModel;

static bool run_litert(Model *base) {
  LiteRtModel *model = (LiteRtModel *)base;
  return OK(RunCompiledModel, model->compiled, 0, model->counts[0], model->buffers[0], model->counts[1],
            model->buffers[1]) ||
         fail_because("it does not run; where the shape of an output depends on the data, use the Python agent");
}

/* Reads the outputs' shapes, for which LiteRT allocates its tensors where `allocate`. */
static bool read_layouts(const LiteRtModel *model, Layout layouts[MAX_TENSORS], bool allocate) {
  memset(layouts, 0, MAX_TENSORS * sizeof *layouts);
  return OK(GetCompiledModelOutputTensorLayouts, model->compiled, 0, model->counts[1], layouts, allocate);
}

static bool depends_on_data(size_t output) {
  return fail("the shape of output %zu depends on the data: use the Python agent", output);
}

/* LiteRT may run a model once whose outputs got other shapes, and write nothing to their buffers. */
static bool shapes_hold(const LiteRtModel *model) {
  Layout layouts[MAX_TENSORS];
  if (!read_layouts(model, layouts, false)) return false;
  for (size_t i = 0; i < model->counts[1]; i++) {
    const Tensor *output = &model->outputs[i];
    bool holds = layouts[i].rank == output->rank;
    for (size_t k = 0; holds && k < output->rank; k++) holds = layouts[i].sides[k] == output->sides[k];
    if (!holds) return depends_on_data(i);
  }
  return true;
}

static bool outputs_litert(Model *base, Outputs *total) {
  LiteRtModel *model = (LiteRtModel *)base;
  if (!shapes_hold(model)) return false;
  for (size_t i = 0; i < model->counts[1]; i++) {
    void *values, *buffer = model->buffers[1][i];
    size_t bytes;
    if (!OK(GetTensorBufferPackedSize, buffer, &bytes) || !OK(LockTensorBuffer, buffer, &values, LOCK_READ)) return false;
    Element element = model->outputs[i].element;
    add_outputs(total, values, bytes / element_bytes(element), element);
    if (!OK(UnlockTensorBuffer, buffer)) return false;
  }
  return true;
}

static void destroy_litert(Model *base) {
  LiteRtModel *model = (LiteRtModel *)base;
  for (int side = 0; side < 2; side++) {
    for (size_t i = 0; i < MAX_TENSORS; i++) {
      if (model->buffers[side][i]) DestroyTensorBuffer(model->buffers[side][i]);
    }
  }
  if (model->compiled) DestroyCompiledModel(model->compiled);
  if (model->options) DestroyOptions(model->options);
  if (model->file) DestroyModel(model->file);
  free(model);
}

/* Reads what a tensor is from what LiteRT says of it. */
static bool read_tensor(const TensorType *type, const char *name, Tensor *tensor) {
  if (!listed_element(element_names, type->element, &tensor->element)) return false;
  tensor->rank = type->layout.rank;
  if (tensor->rank > MAX_RANK) return fail("%.200s of the model has %zu dimensions", name, tensor->rank);
  for (size_t i = 0; i < tensor->rank; i++) tensor->sides[i] = type->layout.sides[i];
  return true;
}

/* Reads name and type of a tensor as the file has them. */
static bool read_file(void *handle, const char **name, TensorType *type) {
  memset(type, 0, sizeof *type);
  return OK(GetTensorName, handle, name) && OK(GetRankedTensorType, handle, type);
}

static bool make_input(LiteRtModel *model, void *handle, size_t index, Feed *feed) {
  void *needs, *values, **buffer = &model->buffers[0][index];
  const char *name;
  TensorType type;
  Tensor tensor = {0};
  bool made = read_file(handle, &name, &type) && read_tensor(&type, name, &tensor) &&
              count_values(&tensor, name) && /* a side that is left open would stay so */
              feed_check(feed, name, &tensor) &&
              OK(GetCompiledModelInputBufferRequirements, model->compiled, 0, index, &needs) &&
              OK(CreateManagedTensorBufferFromRequirements, environment, &type, needs, buffer) &&
              OK(LockTensorBuffer, *buffer, &values, LOCK_WRITE);
  bool filled = made && feed_fill(feed, name, &tensor, values);
  return (!made || OK(UnlockTensorBuffer, *buffer)) && filled;
}

/* Makes the inputs in the order of the file, from which a signature's may differ. */
static bool make_inputs(LiteRtModel *model, void *signature, Feed *feed) {
  void *subgraph, *input, *handle;
  size_t inputs;
  if (!OK(GetSignatureSubgraph, signature, &subgraph) || !OK(GetNumSubgraphInputs, subgraph, &inputs)) return false;
  if (!OK(GetNumSignatureInputs, signature, &model->counts[0]) || !feed_count(feed, inputs)) return false;
  if (inputs != model->counts[0]) return fail("the model has %zu inputs, its signature %zu", inputs, model->counts[0]);
  for (size_t i = 0; i < inputs; i++) {
    size_t index = 0;
    if (!OK(GetSubgraphInput, subgraph, i, &input)) return false;
    for (; index < inputs; index++) {
      if (!OK(GetSignatureInputTensorByIndex, signature, index, &handle)) return false;
      if (handle == input) break;
    }
    if (index == inputs) return fail("input %zu of the model is not in its signature", i);
    if (!make_input(model, handle, index, feed)) return false;
  }
  return end_feed(feed);
}

/* Makes an output of the shape that LiteRT has found, which is not always the file's. */
static bool make_output(LiteRtModel *model, void *signature, size_t index, const Layout *layout) {
  void *handle, *needs;
  const char *name;
  TensorType type;
  Tensor *tensor = &model->outputs[index];
  if (!OK(GetSignatureOutputTensorByIndex, signature, index, &handle) || !read_file(handle, &name, &type)) return false;
  type.layout = *layout;
  if (!read_tensor(&type, name, tensor)) return false;
  for (size_t i = 0; i < tensor->rank; i++) {
    if (tensor->sides[i] < 0) return depends_on_data(index);
  }
  return OK(GetCompiledModelOutputBufferRequirements, model->compiled, 0, index, &needs) &&
         OK(CreateManagedTensorBufferFromRequirements, environment, &type, needs, &model->buffers[1][index]);
}

static bool make_outputs(LiteRtModel *model, void *signature) {
  Layout layouts[MAX_TENSORS];
  if (!OK(GetNumSignatureOutputs, signature, &model->counts[1])) return false;
  if (model->counts[1] > MAX_TENSORS) return fail("the model has more than %d inputs or outputs", MAX_TENSORS);
  if (!read_layouts(model, layouts, true)) return false;
  for (size_t i = 0; i < model->counts[1]; i++) {
    if (!make_output(model, signature, i, &layouts[i])) return false;
  }
  return true;
}

static bool compile(LiteRtModel *model, const char *path, int threads, Feed *feed) {
  void *opaque, *signature;
  char *toml;
  if (!environment && !OK(CreateEnvironment, 0, NULL, &environment)) return false;
  if (CreateModelFromFile(environment, path, &model->file) != 0) return fail("%s is no model that LiteRT reads", path);
  if (!OK(CreateOptions, &model->options)) return false;
  if (!OK(SetOptionsHardwareAccelerators, model->options, CPU)) return false;
  if (!(toml = malloc(64))) return fail("out of memory");
  snprintf(toml, 64, "num_threads = %d\n", threads);
  if (!OK(CreateOpaqueOptions, "xnnpack", toml, free, &opaque)) return false;
  if (!OK(AddOpaqueOptions, model->options, opaque)) return false;
  if (!OK(CreateCompiledModel, environment, model->file, model->options, &model->compiled)) return false;
  return OK(GetModelSignature, model->file, 0, &signature) && make_inputs(model, signature, feed) &&
         make_outputs(model, signature);
}

static Model *load_litert(const char *path, int threads, Feed *feed) {
  LiteRtModel *model = calloc(1, sizeof *model);
  if (!model) return fail("out of memory"), NULL;
  model->base = (Model){.run = run_litert, .outputs = outputs_litert, .destroy = destroy_litert};
  if (compile(model, path, threads, feed)) return &model->base;
  destroy_litert(&model->base);
  return NULL;
}

RUNTIME(.name = "litert", .library = "libLiteRt.", .open = open_litert, .load = load_litert);
