/* Knows the runtimes and opens their libraries. */
#define _GNU_SOURCE
#include "runtimes.h"

#include "failure.h"
#include "options.h"
#include "sha256.h"

#include <dirent.h>
#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
