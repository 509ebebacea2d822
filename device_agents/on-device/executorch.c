/* ExecuTorch programs (N, C, H, W) by the library that gives ExecuTorch's own, which speak C++ alone, a C interface;
 * core/fbexport/runtimes/_executorch_program.py has its source.                                                      */
#include "failure.h"
#include "runtimes.h"

#include <stdio.h>
#include <stdlib.h>

enum { INPUT = 0, OUTPUT = 1, NAME_SPACE = 32 };

/* ScalarType's names in the order of its numbers. */
static const char *const element_names[] = {"uint8",   "int8",      "int16",     "int32",      "int64", "float16", "float32",
                                            "float64", "complex32", "complex64", "complex128", "bool",  NULL};

#define FUNCTIONS(F)                                                                                                   \
  F(const char *, error, (void))                                                                                       \
  F(void *, load, (const char *path, int threads))                                                                     \
  F(void, free, (void *program))                                                                                       \
  F(int, count, (void *program, int side))                                                                             \
  F(int, tensor, (void *program, int side, int index, int64_t *sides, int *element))                                   \
  F(int, set, (void *program, int index, const void *values))                                                          \
  F(int, run, (void *program))                                                                                         \
  F(void, get, (void *program, int index, void *values))

#define DECLARE(type, name, arguments) static type(*fb_##name) arguments;
FUNCTIONS(DECLARE)

static bool open_executorch(void *library) {
#define FIND(type, name, arguments) if (!find_function(library, "fb_" #name, &fb_##name, sizeof fb_##name)) return false;
  FUNCTIONS(FIND)
  return true;
}

typedef struct {
  Model base;
  void *program;
} EtModel;

/* Keeps what ExecuTorch says as the failure. */
static bool told(void) { return fail("ExecuTorch: %s", fb_error()); }

static bool run_executorch(Model *base) { return fb_run(((EtModel *)base)->program) == 0 || told(); }

static bool read_tensor(EtModel *model, int side, int index, Tensor *tensor) {
  int element, rank = fb_tensor(model->program, side, index, tensor->sides, &element);
  if (rank < 0) return told();
  tensor->rank = (size_t)rank;
  tensor->count = 1;
  for (int i = 0; i < rank; i++) tensor->count *= (size_t)tensor->sides[i];
  return listed_element(element_names, element, &tensor->element);
}

static bool outputs_executorch(Model *base, Outputs *total) {
  EtModel *model = (EtModel *)base;
  int count = fb_count(model->program, OUTPUT);
  for (int i = 0; i < count; i++) {
    Tensor tensor = {0};
    if (!read_tensor(model, OUTPUT, i, &tensor)) return false;
    void *values = malloc(tensor.count * element_bytes(tensor.element) + 1);
    if (!values) return fail("out of memory");
    fb_get(model->program, i, values);
    add_outputs(total, values, tensor.count, tensor.element);
    free(values);
  }
  return true;
}

static void destroy_executorch(Model *base) {
  fb_free(((EtModel *)base)->program);
  free(base);
}

/* Programs have no names for inputs. */
static bool set_input(EtModel *model, int index, int count, Feed *feed) {
  char name[NAME_SPACE] = "input";
  Tensor tensor = {0};
  if (count > 1) snprintf(name, sizeof name, "input_%d", index);
  if (!read_tensor(model, INPUT, index, &tensor) || !feed_check(feed, name, &tensor)) return false;
  void *values = malloc(tensor.count * element_bytes(tensor.element));
  if (!values) return fail("out of memory");
  bool set = feed_fill(feed, name, &tensor, values) && (fb_set(model->program, index, values) == 0 || told());
  free(values);
  return set;
}

static bool load_program(EtModel *model, const char *path, int threads, Feed *feed) {
  if (!(model->program = fb_load(path, threads))) return told();
  int inputs = fb_count(model->program, INPUT);
  if (!feed_count(feed, (size_t)inputs)) return false;
  if (fb_count(model->program, OUTPUT) > MAX_TENSORS) {
    return fail("the model has more than %d inputs or outputs", MAX_TENSORS);
  }
  for (int i = 0; i < inputs; i++) {
    if (!set_input(model, i, inputs, feed)) return false;
  }
  return end_feed(feed);
}

static Model *load_executorch(const char *path, int threads, Feed *feed) {
  EtModel *model = calloc(1, sizeof *model);
  if (!model) return fail("out of memory"), NULL;
  model->base = (Model){.run = run_executorch, .outputs = outputs_executorch, .destroy = destroy_executorch};
  if (load_program(model, path, threads, feed)) return &model->base;
  destroy_executorch(&model->base);
  return NULL;
}

RUNTIME(.name = "executorch", .library = "libfbexecutorch.", .open = open_executorch, .load = load_executorch);
