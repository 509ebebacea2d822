/* Parses the command line. */
#include "options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

Options options = {.threads = 1, .sys = "/sys"};

static void usage(const char *what) {
  fprintf(stderr, "agent: %s\nusage: agent [--threads N] [--cores big] [--deadline-s S] [--memory-bytes N]\n"
                  "             [--library-path DIR[:DIR]] [--runtime-version NAME=V] [--sys DIR]\n", what);
  _exit(2);
}

static double number_option(const char *text, double least, double most) {
  char *end_of_number;
  double value = strtod(text, &end_of_number);
  if (end_of_number == text || *end_of_number || !(value >= least && value <= most)) usage(text);
  return value;
}

static void add_version(const char *text) {
  if (!strchr(text, '=') || options.version_count == MAX_VERSIONS) usage(text);
  options.versions[options.version_count++] = text;
}

void parse_options(int count, char **arguments) {
  for (int i = 1; i < count; i += 2) {
    const char *name = arguments[i];
    if (i + 1 >= count) usage(name);
    char *value = arguments[i + 1];
    if (strcmp(name, "--threads") == 0) options.threads = (int)number_option(value, 1, 1024);
    else if (strcmp(name, "--cores") == 0) options.cores = value;
    else if (strcmp(name, "--deadline-s") == 0) options.deadline_s = number_option(value, 0, 1e8);
    else if (strcmp(name, "--memory-bytes") == 0) options.memory_bytes = (int64_t)number_option(value, 1, 1e15);
    else if (strcmp(name, "--library-path") == 0) options.library_path = value;
    else if (strcmp(name, "--runtime-version") == 0) add_version(value);
    else if (strcmp(name, "--sys") == 0) options.sys = value;
    else usage(name);
  }
}

const char *given_version(const char *runtime) {
  size_t bytes = strlen(runtime);
  for (size_t i = 0; i < options.version_count; i++) {
    const char *text = options.versions[i];
    if (strncmp(text, runtime, bytes) == 0 && text[bytes] == '=') return text + bytes + 1;
  }
  return NULL;
}
