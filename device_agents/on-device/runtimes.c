/* Knows the runtimes and opens their libraries; and holds what they share: the test input, output sums. */
#define _GNU_SOURCE
#include "runtimes.h"

#include "failure.h"
#include "options.h"
#include "sha256.h"

#include <dirent.h>
#include <dlfcn.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_TENSOR_VALUES = 1 << 28 };

static Runtime *first_runtime; /* by name, so that the order does not depend on the linker */

void add_runtime(Runtime *runtime) {
  Runtime **at = &first_runtime;
  while (*at && strcmp((*at)->name, runtime->name) < 0) at = &(*at)->next;
  runtime->next = *at;
  *at = runtime;
}

const Runtime *next_runtime(const Runtime *previous) { return previous ? previous->next : first_runtime; }

bool find_function(void *library, const char *name, void *function, size_t bytes) {
  void *symbol = dlsym(library, name);
  if (!symbol) return fail("the library has no function %s", name);
  memcpy(function, &symbol, bytes); /* C has no cast from an object's pointer to a function's */
  return true;
}

bool test_input_fits(int64_t *count, int64_t side) {
  if (side < 1) return fail("a tensor of the model has a side of %lld", (long long)side);
  if (side > MAX_TENSOR_VALUES / *count) return fail("a tensor of the model has more than %d values", MAX_TENSOR_VALUES);
  *count *= side;
  return true;
}

/* Finds what a runtime's number of an element type means, by its table of names. */
bool known_element(const char *const *names, int code, Element *element) {
  for (int i = 0; names[i]; i++) {
    if (i != code) continue;
    if (strcmp(names[i], "float32") == 0) *element = FLOAT32;
    else if (strcmp(names[i], "int8") == 0) *element = INT8;
    else if (strcmp(names[i], "uint8") == 0) *element = UINT8;
    else return fail("a tensor of the model is %s, neither float32 nor int8 nor uint8", names[i]);
    return true;
  }
  return fail("a tensor of the model is of element type %d, neither float32 nor int8 nor uint8", code);
}

/* The same pseudo-random input on every machine, in memory order: between -0.5 and 0.5, from -128 to 127, or from 0 to 255. */
void fill_test_input(void *values, size_t count, Element element) {
  uint32_t state = 12345;
  for (size_t k = 0; k < count; k++) {
    state = state * 1664525u + 1013904223u;
    if (element == INT8) ((int8_t *)values)[k] = (int8_t)((int)(state >> 24) - 128);
    else if (element == UINT8) ((uint8_t *)values)[k] = (uint8_t)(state >> 24);
    else ((float *)values)[k] = (float)(state >> 8) / (float)(1 << 24) - 0.5f;
  }
}

static double number_at(const void *values, size_t i, Element element) {
  if (element == INT8) return ((const int8_t *)values)[i];
  if (element == UINT8) return ((const uint8_t *)values)[i];
  return (double)((const float *)values)[i];
}

void add_outputs(Outputs *total, const void *values, size_t count, Element element) {
  total->count += (int64_t)count;
  for (size_t i = 0; i < count; i++) {
    double value = number_at(values, i, element);
    total->sum += value;
    total->abs_sum += fabs(value);
  }
}

/* Opens the first file of a folder whose name begins with the library's, and keeps its version when it is ready. */
static void open_from(const char *folder, Runtime *runtime) {
  struct dirent **entries;
  char path[PATH_MAX], file[PATH_MAX], hash[65];
  bool ready = false;
  int count = scandir(folder, &entries, NULL, alphasort);
  for (int i = 0; i < count; i++) {
    if (!ready && strncmp(entries[i]->d_name, runtime->library, strlen(runtime->library)) == 0 &&
        snprintf(path, sizeof path, "%s/%s", folder, entries[i]->d_name) < (int)sizeof path) {
      if (runtime->environment) putenv((char *)runtime->environment);
      void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
      ready = library && runtime->open(library);
      if (!ready) fprintf(stderr, "agent: %s: %s\n", path, library ? failure() : dlerror());
      if (ready) memcpy(file, path, sizeof path);
    }
    free(entries[i]);
  }
  if (count >= 0) free(entries);
  if (!ready) return;
  const char *told = runtime->version ? runtime->version() : given_version(runtime->name);
  if (told) snprintf(runtime->found, sizeof runtime->found, "%s", told);
  else if (file_sha256(file, hash)) snprintf(runtime->found, sizeof runtime->found, "unknown, sha256:%.12s", hash);
  else snprintf(runtime->found, sizeof runtime->found, "unknown");
}

void open_runtimes(const char *own_path) {
  char folders[PATH_MAX];
  const char *slash = strrchr(own_path, '/');
  if (options.library_path) snprintf(folders, sizeof folders, "%s", options.library_path);
  else snprintf(folders, sizeof folders, "%.*s", slash ? (int)(slash - own_path) : 1, slash ? own_path : ".");
  for (char *rest = folders, *folder; (folder = strtok_r(rest, ":", &rest));) {
    for (Runtime *runtime = first_runtime; runtime; runtime = runtime->next) {
      if (!*runtime->found) open_from(folder, runtime);
    }
  }
}
