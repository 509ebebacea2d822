/* Options: what the agent was started with. */
#ifndef OPTIONS_H
#define OPTIONS_H

#include <stddef.h>
#include <stdint.h>

enum { MAX_VERSIONS = 64 };

typedef struct {
  int threads;
  double deadline_s;    /* 0: none */
  int64_t memory_bytes; /* 0: no bound */
  const char *cores, *library_path, *sys;
  const char *versions[MAX_VERSIONS]; /* of runtimes whose library does not tell it, each NAME=VERSION */
  size_t version_count;
} Options;

extern Options options;

void parse_options(int count, char **arguments); /* ends the process at one that is not known */
const char *given_version(const char *runtime);  /* NULL if none was given */

#endif
