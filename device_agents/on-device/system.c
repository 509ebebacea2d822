/* What the system tells of itself. */
#define _GNU_SOURCE
#include "system.h"

#include "json.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>
#ifdef __APPLE__
#include <mach/mach.h>
#include <sys/sysctl.h>
#endif

int64_t clock_ns(bool thread_cpu) {
  struct timespec now;
  clock_gettime(thread_cpu ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* ---- files of the system ---- */

bool read_first_line(const char *path, char *line, size_t bytes, bool *denied) {
  FILE *file = fopen(path, "r");
  if (!file) {
    if (denied && (errno == EACCES || errno == EPERM)) *denied = true;
    return false;
  }
  errno = 0;
  bool read = fgets(line, (int)bytes, file) != NULL;
  if (!read && denied && (errno == EACCES || errno == EPERM)) *denied = true;
  fclose(file);
  if (read) line[strcspn(line, "\n")] = '\0';
  return read;
}

bool read_number(const char *path, long *value, bool *denied) {
  char line[64], *end;
  if (!read_first_line(path, line, sizeof line, denied)) return false;
  errno = 0;
  *value = strtol(line, &end, 10);
  return errno == 0 && end > line && *end == '\0';
}

/* ---- memory and processor ---- */

int64_t resident_bytes(void) {
#ifdef __APPLE__
  struct mach_task_basic_info info;
  mach_msg_type_number_t count = MACH_TASK_BASIC_INFO_COUNT;
  if (task_info(mach_task_self(), MACH_TASK_BASIC_INFO, (task_info_t)&info, &count) != KERN_SUCCESS) return -1;
  return (int64_t)info.resident_size;
#else
  char line[128];
  long long pages;
  if (!read_first_line("/proc/self/statm", line, sizeof line, NULL) || sscanf(line, "%*s %lld", &pages) != 1) return -1;
  return pages * sysconf(_SC_PAGE_SIZE);
#endif
}

/* Returns the value of the first line of a file that begins with one of the names and a colon; NULL if none. */
static const char *find_field(const char *path, const char *const *names, char *line, size_t bytes) {
  FILE *file = fopen(path, "r");
  const char *found = NULL;
  if (!file) return NULL;
  while (!found && fgets(line, (int)bytes, file)) {
    for (const char *const *name = names; *name && !found; name++) {
      size_t length = strlen(*name);
      const char *rest = line + length;
      if (strncmp(line, *name, length) != 0) continue;
      while (isspace((unsigned char)*rest)) rest++;
      if (*rest++ != ':') continue;
      while (isspace((unsigned char)*rest)) rest++;
      found = rest;
    }
  }
  fclose(file);
  line[strcspn(line, "\n")] = '\0';
  return found;
}

int64_t available_bytes(void) {
  char line[256];
  const char *kilobytes = find_field("/proc/meminfo", (const char *const[]){"MemAvailable", NULL}, line, sizeof line);
  return kilobytes ? strtoll(kilobytes, NULL, 10) * 1024 : -1;
}

void write_processor_name(FILE *out) {
  char line[256] = "";
#ifdef __APPLE__
  size_t bytes = sizeof line;
  const char *name = sysctlbyname("machdep.cpu.brand_string", line, &bytes, NULL, 0) == 0 ? line : NULL;
#else
  const char *name = find_field("/proc/cpuinfo", (const char *const[]){"model name", "Hardware", "Model", NULL}, line,
                                sizeof line);
#endif
  struct utsname system;
  if (!name) name = uname(&system) >= 0 ? system.machine : "";
  json_write_string(out, name, strlen(name));
}
