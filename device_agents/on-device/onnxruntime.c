/* ONNX models (NCHW) by ONNX Runtime, found in libonnxruntime at run time.
 * OrtApi is a table of function pointers to which releases only append, so an index is as good as the header.        */
#include "failure.h"
#include "runtimes.h"

#include <stdlib.h>
#include <string.h>

enum { API_VERSION = 17, LOG_ERRORS = 3, ALL_OPTIMIZATIONS = 99 };

/* ONNXTensorElementDataType's names in the order of its numbers. */
static const char *const element_names[] = {
    "untyped", "float32", "uint8",   "int8",   "uint16", "int16",     "int32",      "int64",    "string",
    "bool",    "float16", "float64", "uint32", "uint64", "complex64", "complex128", "bfloat16", NULL};

typedef struct {
  const void *(*GetApi)(uint32_t version);
  const char *(*GetVersionString)(void);
} ApiBase;

/* F(type, name, index in OrtApi, arguments); a status is NULL or has to be released. */
#define FUNCTIONS(F)                                                                                                   \
  F(const char *, GetErrorMessage, 2, (const void *status))                                                            \
  F(void *, CreateEnv, 3, (int log_level, const char *id, void **env))                                                 \
  F(void *, CreateSession, 7, (void *env, const char *path, void *options, void **session))                            \
  F(void *, Run, 9,                                                                                                    \
    (void *session, void *options, char **input_names, void **inputs, size_t input_count, char **output_names,         \
     size_t output_count, void **outputs))                                                                             \
  F(void *, CreateSessionOptions, 10, (void **options))                                                                \
  F(void *, SetSessionGraphOptimizationLevel, 23, (void *options, int level))                                          \
  F(void *, SetIntraOpNumThreads, 24, (void *options, int threads))                                                    \
  F(void *, SetInterOpNumThreads, 25, (void *options, int threads))                                                    \
  F(void *, SessionGetInputCount, 30, (void *session, size_t *count))                                                  \
  F(void *, SessionGetOutputCount, 31, (void *session, size_t *count))                                                 \
  F(void *, SessionGetInputTypeInfo, 33, (void *session, size_t index, void **type))                                   \
  F(void *, SessionGetOutputTypeInfo, 34, (void *session, size_t index, void **type))                                  \
  F(void *, SessionGetInputName, 36, (void *session, size_t index, void *allocator, char **name))                      \
  F(void *, SessionGetOutputName, 37, (void *session, size_t index, void *allocator, char **name))                     \
  F(void *, CreateTensorAsOrtValue, 48, (void *allocator, const int64_t *sides, size_t rank, int type, void **value))  \
  F(void *, GetTensorMutableData, 51, (void *value, void **data))                                                      \
  F(void *, CastTypeInfoToTensorInfo, 55, (void *type, void **tensor))                                                 \
  F(void *, GetTensorElementType, 60, (void *tensor, int *type))                                                       \
  F(void *, GetDimensionsCount, 61, (void *tensor, size_t *rank))                                                      \
  F(void *, GetDimensions, 62, (void *tensor, int64_t *sides, size_t rank))                                            \
  F(void *, GetTensorShapeElementCount, 64, (void *tensor, size_t *count))                                             \
  F(void *, GetTensorTypeAndShape, 65, (void *value, void **tensor))                                                   \
  F(void *, AllocatorFree, 76, (void *allocator, void *memory))                                                        \
  F(void *, GetAllocatorWithDefaultOptions, 78, (void **allocator))                                                    \
  F(void, ReleaseStatus, 93, (void *status))                                                                           \
  F(void, ReleaseSession, 95, (void *session))                                                                         \
  F(void, ReleaseValue, 96, (void *value))                                                                             \
  F(void, ReleaseTypeInfo, 98, (void *type))                                                                           \
  F(void, ReleaseTensorTypeAndShapeInfo, 99, (void *tensor))                                                           \
  F(void, ReleaseSessionOptions, 100, (void *options))

#define DECLARE(type, name, index, arguments) static type(*name) arguments;
FUNCTIONS(DECLARE)

static const ApiBase *base_api;
static void *env, *allocator;

/* Calls a function; where it fails, keeps what ONNX Runtime says as the failure and is false. */
#define OK(name, ...) succeeded(name(__VA_ARGS__))

static bool succeeded(void *status) {
  if (!status) return true;
  fail("ONNX Runtime: %s", GetErrorMessage(status));
  ReleaseStatus(status);
  return false;
}

static bool open_ort(void *library) {
  const ApiBase *(*OrtGetApiBase)(void);
  if (!find_function(library, "OrtGetApiBase", &OrtGetApiBase, sizeof OrtGetApiBase)) return false;
  base_api = OrtGetApiBase();
  const char *api = base_api->GetApi(API_VERSION);
  if (!api) return fail("ONNX Runtime %s is too old", base_api->GetVersionString());
#define FIND(type, name, index, arguments) memcpy(&name, api + index * sizeof(void *), sizeof name);
  FUNCTIONS(FIND)
  return true;
}

static const char *version_ort(void) { return base_api->GetVersionString(); }

typedef struct {
  Model base;
  void *session;
  char *input_names[MAX_TENSORS], *output_names[MAX_TENSORS];
  void *inputs[MAX_TENSORS], *outputs[MAX_TENSORS]; /* outputs: made by the first run, written by the later ones */
  bool anew[MAX_TENSORS];                           /* outputs whose shape depends on data: made by every run */
  size_t input_count, output_count;
} OrtModel;

static bool run_ort(Model *base) {
  OrtModel *model = (OrtModel *)base;
  for (size_t i = 0; i < model->output_count; i++) {
    if (!model->anew[i] || !model->outputs[i]) continue;
    ReleaseValue(model->outputs[i]);
    model->outputs[i] = NULL;
  }
  return OK(Run, model->session, NULL, model->input_names, model->inputs, model->input_count, model->output_names,
            model->output_count, model->outputs);
}

static bool outputs_ort(Model *base, Outputs *total) {
  OrtModel *model = (OrtModel *)base;
  for (size_t i = 0; i < model->output_count; i++) {
    void *values, *tensor;
    size_t count;
    int type = 0;
    Element element;
    if (!OK(GetTensorTypeAndShape, model->outputs[i], &tensor)) return false;
    bool known = OK(GetTensorElementType, tensor, &type) && OK(GetTensorShapeElementCount, tensor, &count);
    ReleaseTensorTypeAndShapeInfo(tensor);
    if (!known || !OK(GetTensorMutableData, model->outputs[i], &values)) return false;
    if (!listed_element(element_names, type, &element)) return false;
    add_outputs(total, values, count, element);
  }
  return true;
}

static void destroy_ort(Model *base) {
  OrtModel *model = (OrtModel *)base;
  for (size_t i = 0; i < MAX_TENSORS; i++) {
    if (model->inputs[i]) ReleaseValue(model->inputs[i]);
    if (model->outputs[i]) ReleaseValue(model->outputs[i]);
    if (model->input_names[i]) succeeded(AllocatorFree(allocator, model->input_names[i]));
    if (model->output_names[i]) succeeded(AllocatorFree(allocator, model->output_names[i]));
  }
  if (model->session) ReleaseSession(model->session);
  free(model);
}

/* Reads what the session says of an input or output, and releases `type`; the rank of one that has none is 0. */
static bool read_tensor(void *type, const char *name, Tensor *tensor, int *code) {
  void *info;
  bool known = OK(CastTypeInfoToTensorInfo, type, &info);
  if (known && !info) known = fail("%.200s of the model is no tensor", name);
  known = known && OK(GetTensorElementType, info, code) && OK(GetDimensionsCount, info, &tensor->rank);
  if (known && tensor->rank > MAX_RANK) known = fail("%.200s of the model has %zu dimensions", name, tensor->rank);
  known = known && OK(GetDimensions, info, tensor->sides, tensor->rank);
  ReleaseTypeInfo(type); /* owns `info` */
  return known && listed_element(element_names, *code, &tensor->element);
}

static bool make_input(OrtModel *model, size_t index, Feed *feed) {
  void *type, *values, **input = &model->inputs[index];
  char **name = &model->input_names[index];
  int code = 0;
  Tensor tensor = {0};
  return OK(SessionGetInputName, model->session, index, allocator, name) &&
         OK(SessionGetInputTypeInfo, model->session, index, &type) && read_tensor(type, *name, &tensor, &code) &&
         feed_check(feed, *name, &tensor) &&
         OK(CreateTensorAsOrtValue, allocator, tensor.sides, tensor.rank, code, input) &&
         OK(GetTensorMutableData, *input, &values) && feed_fill(feed, *name, &tensor, values);
}

static bool look_at_output(OrtModel *model, size_t index) {
  void *type;
  char **name = &model->output_names[index];
  int code = 0;
  Tensor tensor = {0};
  if (!OK(SessionGetOutputName, model->session, index, allocator, name)) return false;
  if (!OK(SessionGetOutputTypeInfo, model->session, index, &type)) return false;
  if (!read_tensor(type, *name, &tensor, &code)) return false;
  model->anew[index] = tensor.rank == 0; /* one number, or a tensor of which nothing is known */
  for (size_t i = 0; i < tensor.rank; i++) {
    if (tensor.sides[i] < 0) model->anew[index] = true;
  }
  return true;
}

static bool create_session(OrtModel *model, const char *path, int threads, Feed *feed) {
  void *options;
  if (!env && !OK(CreateEnv, LOG_ERRORS, "agent", &env)) return false;
  if (!allocator && !OK(GetAllocatorWithDefaultOptions, &allocator)) return false;
  if (!OK(CreateSessionOptions, &options)) return false;
  bool made = OK(SetIntraOpNumThreads, options, threads) && OK(SetInterOpNumThreads, options, 1) &&
              OK(SetSessionGraphOptimizationLevel, options, ALL_OPTIMIZATIONS) &&
              OK(CreateSession, env, path, options, &model->session);
  ReleaseSessionOptions(options);
  if (!made || !OK(SessionGetInputCount, model->session, &model->input_count)) return false;
  if (!OK(SessionGetOutputCount, model->session, &model->output_count)) return false;
  if (!feed_count(feed, model->input_count)) return false;
  if (model->output_count > MAX_TENSORS) return fail("the model has more than %d inputs or outputs", MAX_TENSORS);
  for (size_t i = 0; i < model->input_count; i++) {
    if (!make_input(model, i, feed)) return false;
  }
  for (size_t i = 0; i < model->output_count; i++) {
    if (!look_at_output(model, i)) return false;
  }
  return end_feed(feed);
}

static Model *load_ort(const char *path, int threads, Feed *feed) {
  OrtModel *model = calloc(1, sizeof *model);
  if (!model) return fail("out of memory"), NULL;
  model->base = (Model){.run = run_ort, .outputs = outputs_ort, .destroy = destroy_ort};
  if (create_session(model, path, threads, feed)) return &model->base;
  destroy_ort(&model->base);
  return NULL;
}

RUNTIME(.name = "onnxruntime", .library = "libonnxruntime.", .environment = "ORT_DISABLE_TELEMETRY=1",
        .open = open_ort, .version = version_ort, .load = load_ort);
