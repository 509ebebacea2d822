/* Runtimes: what each file that runs models provides, and what all of them use. */
#ifndef RUNTIMES_H
#define RUNTIMES_H

#include "feed.h"
#include "tensors.h"

#include <stdbool.h>
#include <stddef.h>

/* A loaded model; each runtime's own structure begins with it. */
typedef struct Model Model;
struct Model {
  char *name;
  size_t name_bytes;
  bool (*run)(Model *model); /* false after fail() */
  bool (*outputs)(Model *model, Outputs *total);
  void (*destroy)(Model *model);
};

typedef struct Runtime Runtime;
struct Runtime {
  const char *name;                              /* as requests name it */
  const char *library;                           /* how the library's file name begins */
  const char *environment;                       /* NAME=VALUE, set before the library is opened; NULL for none */
  bool (*open)(void *library);                   /* looks its functions up */
  const char *(*version)(void);                  /* NULL where no function tells it */
  Model *(*load)(const char *path, int threads, Feed *feed); /* NULL after fail() */

  char found[128]; /* its version; empty: that runtime is not there */
  Runtime *next;
};

/* Makes a runtime known before main begins. A file that runs models ends with RUNTIME(.name = "…", …); */
#define RUNTIME(...)                                                                    \
  static Runtime this_runtime;                                                          \
  __attribute__((constructor)) static void make_known(void) { add_runtime(&this_runtime); } \
  static Runtime this_runtime = {__VA_ARGS__}

void add_runtime(Runtime *runtime);
const Runtime *next_runtime(const Runtime *previous); /* previous NULL: the first by name; NULL at the end */
void open_runtimes(const char *own_path);             /* from --library-path, or from the folder the agent lies in */

bool find_function(void *library, const char *name, void *function, size_t bytes);

#endif
