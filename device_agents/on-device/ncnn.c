/* ncnn models of one file (docs/measuring/ncnn.md: C, H, W; one image after the other) by ncnn's C interface, found in
 * libncnn at run time.                                                                                               */
#include "failure.h"
#include "runtimes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_IMAGES = 1024, END_BYTES = 8, MAX_TEXT_BYTES = 16 << 20, NAME_SPACE = 64 };

#define FUNCTIONS(F)                                                                                                   \
  F(const char *, version, (void))                                                                                     \
  F(void *, option_create, (void))                                                                                     \
  F(void, option_destroy, (void *option))                                                                              \
  F(void, option_set_num_threads, (void *option, int threads))                                                         \
  F(void *, net_create, (void))                                                                                        \
  F(void, net_destroy, (void *net))                                                                                    \
  F(void, net_set_option, (void *net, void *option))                                                                   \
  F(int, net_load_param_memory, (void *net, const char *param))                                                        \
  F(int, net_load_model, (void *net, const char *path))                                                                \
  F(void *, extractor_create, (void *net))                                                                             \
  F(void, extractor_destroy, (void *extractor))                                                                        \
  F(int, extractor_input, (void *extractor, const char *name, void *mat))                                              \
  F(int, extractor_extract, (void *extractor, const char *name, void **mat))                                           \
  F(void *, mat_create_3d, (int w, int h, int c, void *allocator))                                                     \
  F(void, mat_destroy, (void *mat))                                                                                    \
  F(int, mat_get_w, (void *mat))                                                                                       \
  F(int, mat_get_h, (void *mat))                                                                                       \
  F(int, mat_get_d, (void *mat))                                                                                       \
  F(int, mat_get_c, (void *mat))                                                                                       \
  F(void *, mat_get_channel_data, (void *mat, int channel))

#define DECLARE(type, name, arguments) static type(*ncnn_##name) arguments;
FUNCTIONS(DECLARE)

static void *own_library;

static bool open_ncnn(void *library) {
  own_library = library;
#define FIND(type, name, arguments)                                                                                    \
  if (!find_function(library, "ncnn_" #name, &ncnn_##name, sizeof ncnn_##name)) return false;
  FUNCTIONS(FIND)
  return true;
}

static const char *version_ncnn(void) { return ncnn_version(); }

typedef struct {
  Model base;
  void *net, *images[MAX_IMAGES], *results[MAX_IMAGES][MAX_TENSORS];
  char outputs[MAX_TENSORS][NAME_SPACE];
  size_t image_count, output_count;
} NcnnModel;

static bool run_ncnn(Model *base) {
  NcnnModel *model = (NcnnModel *)base;
  int status = 0;
  for (size_t i = 0; i < model->image_count; i++) {
    void *extractor = ncnn_extractor_create(model->net); /* one for every run: an extractor remembers its blobs */
    status |= ncnn_extractor_input(extractor, "input", model->images[i]);
    for (size_t k = 0; k < model->output_count; k++) {
      void **result = &model->results[i][k];
      if (*result) ncnn_mat_destroy(*result);
      *result = NULL;
      status |= ncnn_extractor_extract(extractor, model->outputs[k], result);
    }
    ncnn_extractor_destroy(extractor);
  }
  return status == 0 || fail("ncnn cannot run it");
}

static bool outputs_ncnn(Model *base, Outputs *total) {
  NcnnModel *model = (NcnnModel *)base;
  for (size_t i = 0; i < model->image_count * model->output_count; i++) {
    void *mat = model->results[i / model->output_count][i % model->output_count];
    size_t pixels = (size_t)ncnn_mat_get_w(mat) * (size_t)ncnn_mat_get_h(mat) * (size_t)ncnn_mat_get_d(mat);
    for (int c = 0; c < ncnn_mat_get_c(mat); c++) add_outputs(total, ncnn_mat_get_channel_data(mat, c), pixels, FLOAT32);
  }
  return true;
}

static void destroy_ncnn(Model *base) {
  NcnnModel *model = (NcnnModel *)base;
  for (size_t i = 0; i < model->image_count; i++) {
    if (model->images[i]) ncnn_mat_destroy(model->images[i]);
    for (size_t k = 0; k < model->output_count; k++) {
      if (model->results[i][k]) ncnn_mat_destroy(model->results[i][k]);
    }
  }
  if (model->net) ncnn_net_destroy(model->net);
  free(model);
}

/* ---- the file ---- */

/* Reads what follows the weights: the layers' text, and the line of JSON, which begins at `*line`. */
static char *read_text(const char *path, char **line) {
  unsigned char end[END_BYTES];
  char *text = NULL;
  FILE *file = fopen(path, "rb");
  long at = file && fseek(file, -END_BYTES, SEEK_END) == 0 ? ftell(file) : -1;
  if (at >= 0 && fread(end, 1, END_BYTES, file) == END_BYTES && memcmp(end + 4, "NCNN", 4) == 0) {
    long bytes = (long)(end[0] | end[1] << 8 | end[2] << 16 | (int64_t)end[3] << 24);
    if (bytes > 1 && bytes <= at && bytes <= MAX_TEXT_BYTES && (text = malloc((size_t)bytes + 2))) {
      bool whole = fseek(file, at - bytes, SEEK_SET) == 0 && fread(text, 1, (size_t)bytes, file) == (size_t)bytes;
      text[bytes] = text[bytes - 1] = 0; /* the line's end */
      *line = whole && strlen(text) == (size_t)bytes - 1 ? strrchr(text, '\n') : NULL;
      if (!*line) free(text), text = NULL;
    }
  }
  if (file) fclose(file);
  if (!text) return fail("it is no ncnn model of one file, or not all of it"), NULL;
  memmove(*line + 2, *line + 1, strlen(*line + 1) + 1);
  (*line)[1] = 0;
  *line += 2;
  return text;
}

/* Sets the options, {"options":{"use_…":true,…}, and returns what follows; NULL after fail(). */
static const char *set_options(void *option, const char *line) {
  static const char head[] = "{\"options\":{", on[] = "lightmode";
  char name[NAME_SPACE], value[6], function[NAME_SPACE + 32];
  if (strncmp(line, head, sizeof head - 1) != 0) return fail("its options cannot be read"), NULL;
  line += sizeof head - 1;
  while (*line != '}') {
    int used = 0;
    void (*set)(void *option, int value);
    if (sscanf(line, "\"%63[a-z0-9_]\":%5[a-z]%n", name, value, &used) != 2) {
      return fail("its options cannot be read"), NULL;
    }
    bool enable = strcmp(value, "true") == 0;
    snprintf(function, sizeof function, "ncnn_option_set_%s", name);
    if (strcmp(name, on) != 0 || !enable) { /* which the C interface cannot set is on by itself */
      if (!find_function(own_library, function, &set, sizeof set)) return NULL;
      set(option, enable);
    }
    line += used + (line[used] == ',');
  }
  return line;
}

/* Reads the outputs' names, "outputs":{"output":[N,…],…}}, and of how many images they are. */
static bool read_outputs(NcnnModel *model, const char *line) {
  static const char head[] = "},\"outputs\":{";
  if (strncmp(line, head, sizeof head - 1) != 0) return fail("its outputs cannot be read");
  line += sizeof head - 1;
  while (*line != '}') {
    int used = 0;
    size_t images;
    if (model->output_count == MAX_TENSORS) return fail("the model has more than %d inputs or outputs", MAX_TENSORS);
    char *name = model->outputs[model->output_count];
    if (sscanf(line, "\"%63[^\"]\":[%4zu%*[0-9, ]]%n", name, &images, &used) != 2 || !used || images > MAX_IMAGES) {
      return fail("its outputs cannot be read");
    }
    if (images > model->image_count) model->image_count = images;
    model->output_count++;
    line += used + (line[used] == ',');
  }
  return model->output_count > 0 || fail("it has no outputs");
}

/* ---- loading ---- */

static bool make_images(NcnnModel *model, const char *param, Feed *feed) {
  Tensor tensor = {.element = FLOAT32, .rank = 4};
  int w, h, c;
  const char *input = strstr(param, "\nInput ");
  if (!input || sscanf(input, " Input %*s 0 1 input 0=%d 1=%d 2=%d", &w, &h, &c) != 3) {
    return fail("it takes others than one input of C, H, W, which only the Python agent feeds");
  }
  memcpy(tensor.sides, (int64_t[]){(int64_t)model->image_count, c, h, w}, 4 * sizeof *tensor.sides);
  if (!feed_count(feed, 1) || !feed_check(feed, "input", &tensor)) return false;
  size_t pixels = (size_t)w * (size_t)h;
  float *values = malloc(tensor.count * sizeof *values);
  if (!values) return fail("out of memory");
  bool filled = feed_fill(feed, "input", &tensor, values) && end_feed(feed);
  for (size_t i = 0; filled && i < model->image_count; i++) {
    filled = (model->images[i] = ncnn_mat_create_3d(w, h, c, NULL)) || fail("out of memory");
    for (int k = 0; filled && k < c; k++) { /* channels are aligned, and so not next to each other */
      memcpy(ncnn_mat_get_channel_data(model->images[i], k), values + (i * (size_t)c + (size_t)k) * pixels,
             pixels * sizeof *values);
    }
  }
  free(values);
  return filled;
}

static bool load_net(NcnnModel *model, const char *path, const char *param, const char *line, int threads) {
  void *option = ncnn_option_create();
  const char *rest = set_options(option, line);
  ncnn_option_set_num_threads(option, threads);
  model->net = ncnn_net_create();
  ncnn_net_set_option(model->net, option);
  ncnn_option_destroy(option);
  if (!rest || !read_outputs(model, rest)) return false;
  return (ncnn_net_load_param_memory(model->net, param) == 0 && ncnn_net_load_model(model->net, path) == 0) ||
         fail("ncnn cannot load it");
}

static Model *load_ncnn(const char *path, int threads, Feed *feed) {
  char *line, *param = read_text(path, &line);
  NcnnModel *model = param ? calloc(1, sizeof *model) : NULL;
  if (!model) {
    if (param) fail("out of memory");
    free(param);
    return NULL;
  }
  model->base = (Model){.run = run_ncnn, .outputs = outputs_ncnn, .destroy = destroy_ncnn};
  bool loaded = load_net(model, path, param, line, threads) && make_images(model, param, feed);
  free(param);
  if (loaded) return &model->base;
  destroy_ncnn(&model->base);
  return NULL;
}

RUNTIME(.name = "ncnn", .library = "libncnn.", .open = open_ncnn, .version = version_ncnn, .load = load_ncnn);
