/* TorchScript files by the library that gives libtorch, which speaks C++ alone, a C interface;
 * core/fbexport/runtimes/_torch_shim.py has its source. A file does not know its inputs: requests tell them.        */
#include "failure.h"
#include "runtimes.h"

#include <stdlib.h>

/* ScalarType's names in the order of its numbers. */
static const char *const element_names[] = {"uint8",   "int8",      "int16",     "int32",      "int64", "float16", "float32",
                                            "float64", "complex32", "complex64", "complex128", "bool",  NULL};

#define FUNCTIONS(F)                                                                                                   \
  F(const char *, error, (void))                                                                                       \
  F(const char *, version, (void))                                                                                     \
  F(void *, load, (const char *path, int threads))                                                                     \
  F(void, free, (void *module))                                                                                        \
  F(int, set, (void *module, const int64_t *sides, int rank, int element, const void *values))                         \
  F(int, run, (void *module))                                                                                          \
  F(int, count, (void *module))                                                                                        \
  F(const void *, output, (void *module, int index, int64_t *count, int *element))

#define DECLARE(type, name, arguments) static type(*fb_##name) arguments;
FUNCTIONS(DECLARE)

static bool open_torch(void *library) {
#define FIND(type, name, arguments) if (!find_function(library, "fb_" #name, &fb_##name, sizeof fb_##name)) return false;
  FUNCTIONS(FIND)
  return true;
}

static const char *version_torch(void) { return fb_version(); }

typedef struct {
  Model base;
  void *module;
} TorchModel;

/* Keeps what torch says as the failure. */
static bool told(void) { return fail("torch: %s", fb_error()); }

static bool run_torch(Model *base) { return fb_run(((TorchModel *)base)->module) == 0 || told(); }

static bool outputs_torch(Model *base, Outputs *total) {
  void *module = ((TorchModel *)base)->module;
  int outputs = fb_count(module);
  if (outputs < 0) return told();
  if (outputs > MAX_TENSORS) return fail("the model has more than %d inputs or outputs", MAX_TENSORS);
  for (int i = 0; i < outputs; i++) {
    int64_t count;
    int code;
    Element element;
    const void *values = fb_output(module, i, &count, &code);
    if (!listed_element(element_names, code, &element)) return false;
    add_outputs(total, values, (size_t)count, element);
  }
  return true;
}

static void destroy_torch(Model *base) {
  fb_free(((TorchModel *)base)->module);
  free(base);
}

static int code_of(Element element) {
  Element one;
  int code = 0;
  while (!known_element(element_names[code], &one) || one != element) code++; /* each is in the list */
  return code;
}

static bool load_module(TorchModel *model, const char *path, int threads, Feed *feed) {
  size_t inputs = feed_asked(feed);
  if (!feed_count(feed, inputs)) return false;
  if (!(model->module = fb_load(path, threads))) return told();
  for (size_t i = 0; i < inputs; i++) {
    const char *name;
    Tensor tensor = {0};
    if (!feed_next(feed, &name, &tensor)) return false;
    void *values = malloc(tensor.count * element_bytes(tensor.element));
    if (!values) return fail("out of memory");
    bool set = feed_fill(feed, name, &tensor, values) &&
               (fb_set(model->module, tensor.sides, (int)tensor.rank, code_of(tensor.element), values) == 0 || told());
    free(values);
    if (!set) return false;
  }
  return end_feed(feed);
}

static Model *load_torch(const char *path, int threads, Feed *feed) {
  TorchModel *model = calloc(1, sizeof *model);
  if (!model) return fail("out of memory"), NULL;
  model->base = (Model){.run = run_torch, .outputs = outputs_torch, .destroy = destroy_torch};
  if (load_module(model, path, threads, feed)) return &model->base;
  destroy_torch(&model->base);
  return NULL;
}

RUNTIME(.name = "torch", .library = "libfbtorch.", .open = open_torch, .version = version_torch, .load = load_torch);
