/* The device's cores: which are on, the clusters they form by their highest clock, and binding the agent to some. */
#define _GNU_SOURCE
#include "cores.h"

#include "failure.h"
#include "options.h"
#include "system.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#ifndef __APPLE__
#include <sched.h>
#endif

static struct {
  int cores[MAX_CORES];
  size_t count; /* 0: not bound */
} bound;

/* ---- what the system does ---- */

#ifdef __APPLE__ /* binds no process to cores */
int current_core(void) { return -1; }
size_t allowed_cores(int *cores, size_t limit) {
  (void)cores, (void)limit;
  return 0;
}
static bool set_affinity(void) { return fail("this system binds no process to cores"); }
#else
int current_core(void) { return sched_getcpu(); }

size_t allowed_cores(int *cores, size_t limit) {
  cpu_set_t set;
  size_t count = 0;
  if (sched_getaffinity(0, sizeof set, &set) != 0) return 0;
  for (int core = 0; core < CPU_SETSIZE && count < limit; core++) {
    if (CPU_ISSET((size_t)core, &set)) cores[count++] = core;
  }
  return count;
}

static bool set_affinity(void) {
  cpu_set_t set;
  CPU_ZERO(&set);
  for (size_t i = 0; i < bound.count; i++) {
    if (bound.cores[i] >= CPU_SETSIZE) return fail("%s", strerror(EINVAL));
    CPU_SET((size_t)bound.cores[i], &set);
  }
  return sched_setaffinity(0, sizeof set, &set) == 0 || fail("%s", strerror(errno));
}
#endif

/* ---- clusters ---- */

static bool is_online(int core) {
  char path[PATH_MAX];
  long online;
  snprintf(path, sizeof path, "%s/devices/system/cpu/cpu%d", options.sys, core);
  if (access(path, F_OK) != 0) return false;
  snprintf(path, sizeof path, "%s/devices/system/cpu/cpu%d/online", options.sys, core);
  return !read_number(path, &online, NULL) || online != 0; /* a core without that file cannot be off */
}

/* Reads the highest clock of every core; 0 where it is off or does not tell. */
static void read_max_khz(long max_khz[MAX_CORES]) {
  char path[PATH_MAX];
  for (int core = 0; core < MAX_CORES; core++) {
    max_khz[core] = 0;
    if (!is_online(core)) continue;
    snprintf(path, sizeof path, "%s/devices/system/cpu/cpu%d/cpufreq/cpuinfo_max_freq", options.sys, core);
    if (!read_number(path, &max_khz[core], NULL) || max_khz[core] < 0) max_khz[core] = 0;
  }
}

/* Returns the highest clock of the next faster cluster, 0 if there is none. */
static long next_cluster(const long max_khz[MAX_CORES], long khz) {
  long next = 0;
  for (int core = 0; core < MAX_CORES; core++) {
    if (max_khz[core] > khz && (next == 0 || max_khz[core] < next)) next = max_khz[core];
  }
  return next;
}

void write_clusters(FILE *out) {
  static long max_khz[MAX_CORES];
  bool found = false;
  read_max_khz(max_khz);
  for (long khz = 0; (khz = next_cluster(max_khz, khz)) != 0; found = true) {
    const char *before = "";
    fprintf(out, "%s{\"max_khz\":%ld,\"cores\":[", found ? "," : "[", khz);
    for (int core = 0; core < MAX_CORES; core++) {
      if (max_khz[core] != khz) continue;
      fprintf(out, "%s%d", before, core);
      before = ",";
    }
    fputs("]}", out);
  }
  fputs(found ? "]" : "null", out);
}

/* ---- which cores are meant ---- */

static bool find_cluster(const char *word, bool meant[MAX_CORES]) {
  static long max_khz[MAX_CORES];
  long slowest, fastest = 0;
  int clusters = 0;
  read_max_khz(max_khz);
  slowest = next_cluster(max_khz, 0);
  for (long khz = 0; (khz = next_cluster(max_khz, khz)) != 0; clusters++) fastest = khz;
  if (clusters == 0) {
    return fail("no core under %s/devices/system/cpu tells its highest clock (cpufreq/cpuinfo_max_freq), so which are "
                "%s is not known; name them by numbers, such as 4-7", options.sys, word);
  }
  bool big = strcmp(word, "big") == 0, little = strcmp(word, "little") == 0;
  if (!big && !little && clusters < 3) {
    return fail("there are no middle cores: the device tells %d cluster%s", clusters, clusters < 2 ? "" : "s");
  }
  for (int core = 0; core < MAX_CORES; core++) {
    long khz = max_khz[core];
    meant[core] = khz != 0 && (big ? khz == fastest : little ? khz == slowest : khz != slowest && khz != fastest);
  }
  return true;
}

static bool find_online(bool meant[MAX_CORES]) {
  bool found = false;
  for (int core = 0; core < MAX_CORES; core++) found |= meant[core] = is_online(core);
  return found || fail("%s/devices/system/cpu lists no cores; name them by numbers, such as 0-3", options.sys);
}

/* Parses a hexadecimal mask, the last digit of which holds cores 0 to 3. */
static bool parse_mask(const char *digits, bool meant[MAX_CORES]) {
  size_t count = strspn(digits, "0123456789abcdefABCDEF");
  bool found = false;
  if (count == 0 || count > MAX_CORES / 4 || digits[count]) return false;
  for (size_t i = 0; i < count; i++) {
    const char digit[2] = {digits[count - 1 - i], '\0'};
    long bits = strtol(digit, NULL, 16);
    for (size_t bit = 0; bit < 4; bit++) found |= meant[4 * i + bit] = bits >> bit & 1;
  }
  return found;
}

/* Parses a core's number and moves `text` behind it. */
static bool parse_core(const char **text, long *core) {
  char *rest;
  if (**text < '0' || **text > '9') return false;
  errno = 0;
  *core = strtol(*text, &rest, 10);
  *text = rest;
  return errno == 0 && *core < MAX_CORES;
}

/* Parses numbers and ranges, such as 0-3,6. */
static bool parse_numbers(const char *text, bool meant[MAX_CORES]) {
  for (;; text++) {
    long first, last;
    if (!parse_core(&text, &first)) return false;
    last = first;
    if (*text == '-' && (text++, !parse_core(&text, &last))) return false;
    if (first > last) return false;
    for (long core = first; core <= last; core++) meant[core] = true;
    if (*text != ',') return *text == '\0';
  }
}

static bool is_word(const char *text) {
  return strcmp(text, "big") == 0 || strcmp(text, "middle") == 0 || strcmp(text, "little") == 0;
}

static bool find_cores(const char *wanted, bool meant[MAX_CORES]) {
  if (strcmp(wanted, "all") == 0) return find_online(meant);
  if (is_word(wanted)) return find_cluster(wanted, meant);
  if (strncmp(wanted, "0x", 2) == 0 ? parse_mask(wanted + 2, meant) : parse_numbers(wanted, meant)) return true;
  return fail("cores are big, middle, little, all, numbers such as 0-3,6 or a mask, not '%.200s'", wanted);
}

bool bind_to_cores(const char *wanted) {
  bool meant[MAX_CORES] = {false};
  char numbers[64] = "", what[128];
  size_t at = 0;
  if (!find_cores(wanted, meant)) return false;
  for (int core = 0; core < MAX_CORES; core++) {
    if (!meant[core]) continue;
    if (at < sizeof numbers) {
      at += (size_t)snprintf(numbers + at, sizeof numbers - at, "%s%d", bound.count ? "," : "", core);
    }
    bound.cores[bound.count++] = core;
  }
  if (!set_affinity()) {
    bool word = is_word(wanted) || strcmp(wanted, "all") == 0;
    snprintf(what, sizeof what, "cannot bind to cores %s%s%s%s", numbers, word ? " (" : "", word ? wanted : "",
             word ? ")" : "");
    return fail_because(what);
  }
  bound.count = allowed_cores(bound.cores, MAX_CORES);
  return true;
}

/* Hotplug and power management may undo what the agent was bound to. */
bool still_bound(void) {
  int cores[MAX_CORES];
  size_t count = bound.count ? allowed_cores(cores, MAX_CORES) : 0;
  if (count == bound.count && memcmp(cores, bound.cores, count * sizeof *cores) == 0) return true;
  return fail("the system took the agent off the cores that it was bound to");
}
