/* What the system tells of itself. */
#define _GNU_SOURCE
#include "system.h"

#include "options.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#ifdef __APPLE__
#include <mach/mach.h>
#include <sys/sysctl.h>
#endif

extern char **environ;

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

/* ---- memory ---- */

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

int64_t peak_bytes(void) {
#ifdef __APPLE__
  struct mach_task_basic_info info;
  mach_msg_type_number_t count = MACH_TASK_BASIC_INFO_COUNT;
  if (task_info(mach_task_self(), MACH_TASK_BASIC_INFO, (task_info_t)&info, &count) != KERN_SUCCESS) return -1;
  return (int64_t)info.resident_size_max;
#else
  char line[256];
  const char *kilobytes = find_field("/proc/self/status", (const char *const[]){"VmHWM", NULL}, line, sizeof line);
  return kilobytes ? strtoll(kilobytes, NULL, 10) * 1024 : -1;
#endif
}

bool lower_peak(void) {
  int file = open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC);
  if (file < 0) return false;
  bool lowered = write(file, "5", 1) == 1;
  close(file);
  return lowered;
}

int64_t available_bytes(void) {
  char line[256];
  const char *kilobytes = find_field("/proc/meminfo", (const char *const[]){"MemAvailable", NULL}, line, sizeof line);
  return kilobytes ? strtoll(kilobytes, NULL, 10) * 1024 : -1;
}

/* ---- what the device is ---- */

/* Reads a property of an Android device; empty where there is none, or this is no Android. */
static void read_property(const char *name, char value[NAME_BYTES]) {
  int ends[2];
  pid_t child;
  posix_spawn_file_actions_t actions;
  *value = '\0';
  if (pipe(ends) != 0) return;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, ends[1], 1);
  posix_spawn_file_actions_addclose(&actions, ends[0]);
  posix_spawn_file_actions_addclose(&actions, ends[1]);
  char *const arguments[] = {(char[]){"getprop"}, (char *)name, NULL};
  bool started = posix_spawnp(&child, "getprop", &actions, NULL, arguments, environ) == 0;
  posix_spawn_file_actions_destroy(&actions);
  close(ends[1]);
  FILE *answer = fdopen(ends[0], "r");
  if (!answer) close(ends[0]);
  else if (!fgets(value, NAME_BYTES, answer)) *value = '\0';
  if (answer) fclose(answer);
  if (started) waitpid(child, NULL, 0);
  value[strcspn(value, "\r\n")] = '\0';
  if (strcmp(value, "unknown") == 0) *value = '\0';
}

/* Reads what Android calls a model, with its maker before it; false where it does not tell. */
static bool read_model(const char *maker_name, const char *model_name, char text[2 * NAME_BYTES]) {
  char maker[NAME_BYTES], model[NAME_BYTES];
  read_property(model_name, model);
  if (!*model) return false;
  read_property(maker_name, maker);
  bool has_maker = !*maker || strncasecmp(model, maker, strlen(maker)) == 0;
  snprintf(text, 2 * NAME_BYTES, "%s%s%s", has_maker ? "" : maker, has_maker ? "" : " ", model);
  return true;
}

/* Reads what a board's device tree calls it; false where it does not tell. */
static bool read_board(char text[2 * NAME_BYTES]) {
  char path[PATH_MAX];
  snprintf(path, sizeof path, "%s/../proc/device-tree/model", options.sys);
  return read_first_line(path, text, NAME_BYTES, NULL) && *text;
}

bool read_device_model(char text[2 * NAME_BYTES]) {
  return read_model("ro.product.manufacturer", "ro.product.model", text) || read_board(text);
}

void read_processor_name(char text[2 * NAME_BYTES]) {
  char line[NAME_BYTES] = "";
  struct utsname system;
  if (read_model("ro.soc.manufacturer", "ro.soc.model", text)) return;
  read_property("ro.board.platform", text);
  if (!*text) read_property("ro.hardware", text);
  if (*text) return;
#ifdef __APPLE__
  size_t bytes = sizeof line;
  const char *name = sysctlbyname("machdep.cpu.brand_string", line, &bytes, NULL, 0) == 0 ? line : NULL;
#else
  const char *name = find_field("/proc/cpuinfo", (const char *const[]){"model name", "Hardware", "Model", NULL}, line,
                                sizeof line);
#endif
  if (!name && read_board(text)) return;
  if (!name) name = uname(&system) >= 0 ? system.machine : "";
  snprintf(text, 2 * NAME_BYTES, "%s", name);
}

void read_system_name(char *text, size_t bytes) {
  char release[NAME_BYTES], build[NAME_BYTES];
  struct utsname system;
  bool known = uname(&system) >= 0;
  size_t at = 0;
  *text = '\0';
  read_property("ro.build.version.release", release);
  read_property("ro.build.id", build);
  if (*release) {
    at = (size_t)snprintf(text, bytes, "Android %s%s%s%s, ", release, *build ? " (" : "", build, *build ? ")" : "");
  }
  if (known && at < bytes) {
    snprintf(text + at, bytes - at, "%.100s %.100s %.100s", system.sysname, system.release, system.machine);
  }
}
