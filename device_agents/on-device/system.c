/* What the system tells of itself: clocks, frequencies, temperatures, memory. What it does not tell is null, and
 * what is there but may not be read is listed as denied.                                                             */
#define _GNU_SOURCE
#include "agent.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <limits.h>
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

/* Reads the first line of a file; false where there is none, with `denied` set where there is one. */
static bool read_line(const char *path, char *line, size_t bytes, bool *denied) {
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
  if (!read_line(path, line, sizeof line, denied)) return false;
  errno = 0;
  *value = strtol(line, &end, 10);
  return errno == 0 && end > line && *end == '\0';
}

static int64_t read_frequency(const char *sys, int core, bool *denied) {
  char path[PATH_MAX];
  long khz;
  snprintf(path, sizeof path, "%s/devices/system/cpu/cpu%d/cpufreq/scaling_cur_freq", sys, core);
  return read_number(path, &khz, denied) ? khz : -1;
}

int64_t frequency_khz(const char *sys, int core) { return core < 0 ? -1 : read_frequency(sys, core, NULL); }

/* Writes ,"freq_khz":{...} or null. */
static void write_frequencies(FILE *out, const char *sys, bool *denied) {
  long cores = sysconf(_SC_NPROCESSORS_CONF);
  bool found = false;
  fputs(",\"freq_khz\":", out);
  for (int core = 0; core < cores && core < MAX_CORES; core++) {
    int64_t khz = read_frequency(sys, core, denied);
    if (khz < 0) continue;
    fprintf(out, "%s\"%d\":%lld", found ? "," : "{", core, (long long)khz);
    found = true;
  }
  fputs(found ? "}" : "null", out);
}

/* Writes the temperature of each entry of a folder by `name`; a few vendors give thermal zones in whole degrees. */
static bool write_folder(FILE *out, const char *sys, const char *folder, const char *prefix, bool found, bool *denied) {
  bool zone = *prefix != '\0';
  char path[PATH_MAX], type[64], name[512];
  struct dirent **entries;
  snprintf(path, sizeof path, "%s/%s", sys, folder);
  int count = scandir(path, &entries, NULL, alphasort);
  if (count < 0 && (errno == EACCES || errno == EPERM)) *denied = true;
  for (int i = 0; i < count; i++) {
    const char *entry = entries[i]->d_name;
    long value;
    snprintf(path, sizeof path, "%s/%s/%s/temp", sys, folder, entry);
    if (entry[0] != '.' && strncmp(entry, prefix, strlen(prefix)) == 0 && read_number(path, &value, denied)) {
      snprintf(path, sizeof path, "%s/%s/%s/type", sys, folder, entry);
      bool typed = read_line(path, type, sizeof type, NULL);
      snprintf(name, sizeof name, "%s%s%s", entry, typed ? " " : "", typed ? type : "");
      fputc(found ? ',' : '{', out);
      found = true;
      json_write_string(out, name, strlen(name));
      fputc(':', out);
      json_write_number(out, !zone ? (double)value / 10 : labs(value) >= 1000 ? (double)value / 1000 : (double)value);
    }
    free(entries[i]);
  }
  if (count >= 0) free(entries);
  return found;
}

void write_state(FILE *out, const char *sys) {
  int cores[MAX_CORES];
  size_t count = allowed_cores(cores, MAX_CORES);
  bool no_frequencies = false, no_temperatures = false;
  fputs(",\"affinity\":", out);
  for (size_t i = 0; i < count; i++) fprintf(out, "%s%d", i ? "," : "[", cores[i]);
  fputs(count ? "]" : "null", out);
  write_frequencies(out, sys, &no_frequencies);
  fputs(",\"temperature_c\":", out);
  bool found = write_folder(out, sys, "class/thermal", "thermal_zone", false, &no_temperatures);
  found = write_folder(out, sys, "class/power_supply", "", found, &no_temperatures);
  fputs(found ? "}" : "null", out);
  int64_t bytes = available_bytes();
  if (bytes >= 0) fprintf(out, ",\"memory_available_bytes\":%lld", (long long)bytes);
  else fputs(",\"memory_available_bytes\":null", out);
  fprintf(out, ",\"denied\":[%s%s%s]", no_frequencies ? "\"freq_khz\"" : "",
          no_frequencies && no_temperatures ? "," : "", no_temperatures ? "\"temperature_c\"" : "");
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
  if (!read_line("/proc/self/statm", line, sizeof line, NULL) || sscanf(line, "%*s %lld", &pages) != 1) return -1;
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
