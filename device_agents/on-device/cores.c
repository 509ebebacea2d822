/* The device's cores: which are on, the clusters they form by what they can do, and binding the agent to some. */
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

/* What a core can do; 0 is what the system does not tell. */
typedef struct {
  long capacity, family, max_khz;
} Kind;

/* Arm's cores by implementer and part, as in MIDR_EL1: little, middle, big. */
static const char *const FAMILIES[] = {
    " 41c05 41c07 41d01 41d02 41d03 41d04 41d05 41d46 41d80 41d88 41d8a 51201 51211 51801 51803 51805 ",
    " 41c08 41c09 41c0d 41c0e 41c0f 41d07 41d08 41d09 41d0a 41d0b 41d0d 41d0e 41d41 41d42 41d47 41d4b 41d4d 41d81 "
    "41d87 41d8b 51001 51205 51800 51802 51804 ",
    " 41d44 41d48 41d4c 41d4e 41d82 41d85 41d8c 41d90 53001 53002 53003 53004 ",
};

static long family_of(long part) {
  char word[32];
  snprintf(word, sizeof word, " %lx ", part);
  for (size_t i = 0; i < sizeof FAMILIES / sizeof *FAMILIES; i++) {
    if (strstr(FAMILIES[i], word)) return (long)i + 1;
  }
  return 0;
}

/* Reads the implementer and part of every core from /proc/cpuinfo; 0 where it has none. */
static void read_parts(long parts[MAX_CORES]) {
  char path[PATH_MAX], line[256];
  long core = -1, implementer = 0;
  memset(parts, 0, MAX_CORES * sizeof *parts);
  snprintf(path, sizeof path, "%s/../proc/cpuinfo", options.sys);
  FILE *file = fopen(path, "r");
  if (!file) return;
  while (fgets(line, sizeof line, file)) {
    const char *value = strchr(line, ':');
    long number = value ? strtol(value + 1, NULL, 0) : 0;
    if (strncmp(line, "processor", 9) == 0) core = number;
    else if (strncmp(line, "CPU implementer", 15) == 0) implementer = number;
    else if (strncmp(line, "CPU part", 8) == 0 && core >= 0 && core < MAX_CORES) parts[core] = implementer << 12 | number;
  }
  fclose(file);
}

static long read_core(int core, const char *name) {
  char path[PATH_MAX];
  long value;
  snprintf(path, sizeof path, "%s/devices/system/cpu/cpu%d/%s", options.sys, core, name);
  return read_number(path, &value, NULL) && value > 0 ? value : 0;
}

/* Reads the kind of every core; all 0 where it is off or tells nothing. Capacity and family count only where every core
 * that is on tells them, and not a capacity that is the same for all: so it is too where the system does not know it. */
static void read_kinds(Kind kinds[MAX_CORES]) {
  static long parts[MAX_CORES];
  char path[PATH_MAX], midr[64];
  bool capacities = true, families = true, differ = false;
  long first = 0;
  read_parts(parts);
  for (int core = 0; core < MAX_CORES; core++) {
    kinds[core] = (Kind){0};
    if (!is_online(core)) continue;
    snprintf(path, sizeof path, "%s/devices/system/cpu/cpu%d/regs/identification/midr_el1", options.sys, core);
    if (read_first_line(path, midr, sizeof midr, NULL)) {
      unsigned long long bits = strtoull(midr, NULL, 16);
      parts[core] = (long)((bits >> 24 & 0xff) << 12 | (bits >> 4 & 0xfff));
    }
    kinds[core] = (Kind){read_core(core, "cpu_capacity"), family_of(parts[core]),
                         read_core(core, "cpufreq/cpuinfo_max_freq")};
    if (!first) first = kinds[core].capacity;
    differ |= kinds[core].capacity != first;
    capacities &= kinds[core].capacity != 0;
    families &= kinds[core].family != 0;
  }
  for (int core = 0; core < MAX_CORES; core++) {
    if (!capacities || !differ) kinds[core].capacity = 0;
    if (!families) kinds[core].family = 0;
  }
}

/* Says which of two kinds is the stronger one: by capacity, else by family, else by clock. */
static int compare_kinds(Kind a, Kind b) {
  if (a.capacity != b.capacity) return a.capacity > b.capacity ? 1 : -1;
  if (a.family != b.family) return a.family > b.family ? 1 : -1;
  return (a.max_khz > b.max_khz) - (a.max_khz < b.max_khz);
}

/* Moves `kind` on to the next stronger one of the device; false where there is none. */
static bool next_kind(const Kind kinds[MAX_CORES], Kind *kind) {
  const Kind *next = NULL;
  for (int core = 0; core < MAX_CORES; core++) {
    if (compare_kinds(kinds[core], *kind) > 0 && (!next || compare_kinds(kinds[core], *next) < 0)) next = &kinds[core];
  }
  if (next) *kind = *next;
  return next != NULL;
}

static void write_known(FILE *out, const char *key, long value) {
  if (value) fprintf(out, "\"%s\":%ld,", key, value);
  else fprintf(out, "\"%s\":null,", key);
}

void write_clusters(FILE *out) {
  static Kind kinds[MAX_CORES];
  Kind kind = {0};
  bool found = false;
  read_kinds(kinds);
  for (; next_kind(kinds, &kind); found = true) {
    const char *before = "";
    fputs(found ? ",{" : "[{", out);
    write_known(out, "capacity", kind.capacity);
    write_known(out, "max_khz", kind.max_khz);
    fputs("\"cores\":[", out);
    for (int core = 0; core < MAX_CORES; core++) {
      if (compare_kinds(kinds[core], kind) != 0) continue;
      fprintf(out, "%s%d", before, core);
      before = ",";
    }
    fputs("]}", out);
  }
  fputs(found ? "]" : "null", out);
}

/* ---- which cores are meant ---- */

static bool find_cluster(const char *word, bool meant[MAX_CORES]) {
  static Kind kinds[MAX_CORES];
  const Kind none = {0};
  Kind weakest = none, strongest = none;
  int clusters = 0;
  read_kinds(kinds);
  for (; next_kind(kinds, &strongest); clusters++) {
    if (clusters == 0) weakest = strongest;
  }
  if (clusters == 0) {
    return fail("no core under %s/devices/system/cpu tells its capacity, its part or its highest clock, so which are %s "
                "is not known; name them by numbers, such as 4-7", options.sys, word);
  }
  bool big = strcmp(word, "big") == 0, little = strcmp(word, "little") == 0;
  if (!big && clusters < (little ? 2 : 3)) {
    return fail("there are no %s cores: the device tells %d cluster%s", word, clusters, clusters < 2 ? "" : "s");
  }
  for (int core = 0; core < MAX_CORES; core++) {
    bool is_weakest = compare_kinds(kinds[core], weakest) == 0, is_strongest = compare_kinds(kinds[core], strongest) == 0;
    if (compare_kinds(kinds[core], none) == 0) continue;
    meant[core] |= big ? is_strongest : little ? is_weakest : !is_weakest && !is_strongest;
  }
  return true;
}

static bool find_online(bool meant[MAX_CORES]) {
  bool found = false;
  for (int core = 0; core < MAX_CORES; core++) {
    if (!is_online(core)) continue;
    found = meant[core] = true;
  }
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
    for (size_t bit = 0; bit < 4; bit++) {
      if (bits >> bit & 1) found = meant[4 * i + bit] = true;
    }
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

/* Parses a number or a range, such as 0-3. */
static bool parse_range(const char *text, bool meant[MAX_CORES]) {
  long first, last;
  if (!parse_core(&text, &first)) return false;
  last = first;
  if (*text == '-' && (text++, !parse_core(&text, &last))) return false;
  if (first > last || *text) return false;
  for (long core = first; core <= last; core++) meant[core] = true;
  return true;
}

static bool is_word(const char *text) {
  return strcmp(text, "big") == 0 || strcmp(text, "middle") == 0 || strcmp(text, "little") == 0;
}

/* Finds what is separated by commas: words, numbers and ranges, masks. `has_word` becomes whether there is a word. */
static bool find_cores(const char *wanted, bool meant[MAX_CORES], bool *has_word) {
  for (const char *rest = wanted;; rest++) {
    char part[MAX_CORES];
    size_t bytes = strcspn(rest, ",");
    snprintf(part, sizeof part, "%.*s", bytes < sizeof part ? (int)bytes : 0, rest); /* nothing is as long as that */
    bool all = strcmp(part, "all") == 0, word = all || is_word(part);
    *has_word |= word;
    if (word && !(all ? find_online(meant) : find_cluster(part, meant))) return false;
    if (!word && !(strncmp(part, "0x", 2) == 0 ? parse_mask(part + 2, meant) : parse_range(part, meant))) {
      return fail("cores are big, middle, little, all, numbers such as 0-3,6 or a mask, not '%.200s'", wanted);
    }
    rest += bytes;
    if (!*rest) return true;
  }
}

bool bind_to_cores(const char *wanted) {
  bool meant[MAX_CORES] = {false}, has_word = false;
  char numbers[64] = "", what[128];
  size_t at = 0;
  if (!find_cores(wanted, meant, &has_word)) return false;
  for (int core = 0; core < MAX_CORES; core++) {
    if (!meant[core]) continue;
    if (at < sizeof numbers) {
      at += (size_t)snprintf(numbers + at, sizeof numbers - at, "%s%d", bound.count ? "," : "", core);
    }
    bound.cores[bound.count++] = core;
  }
  if (!set_affinity()) {
    snprintf(what, sizeof what, "cannot bind to cores %s%s%.40s%s", numbers, has_word ? " (" : "",
             has_word ? wanted : "", has_word ? ")" : "");
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
