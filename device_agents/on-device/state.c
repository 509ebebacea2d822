/* What changes while a device is measured: affinity, frequencies, temperatures, free memory. What the system does not
 * tell is null, and what is there but may not be read is listed as denied.                                           */
#define _GNU_SOURCE
#include "state.h"

#include "cores.h"
#include "json.h"
#include "options.h"
#include "system.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int64_t read_frequency(int core, bool *denied) {
  char path[PATH_MAX];
  long khz;
  snprintf(path, sizeof path, "%s/devices/system/cpu/cpu%d/cpufreq/scaling_cur_freq", options.sys, core);
  return read_number(path, &khz, denied) ? khz : -1;
}

int64_t frequency_khz(int core) { return core < 0 ? -1 : read_frequency(core, NULL); }

/* Writes ,"freq_khz":{...} or null. */
static void write_frequencies(FILE *out, bool *denied) {
  long cores = sysconf(_SC_NPROCESSORS_CONF);
  bool found = false;
  fputs(",\"freq_khz\":", out);
  for (int core = 0; core < cores && core < MAX_CORES; core++) {
    int64_t khz = read_frequency(core, denied);
    if (khz < 0) continue;
    fprintf(out, "%s\"%d\":%lld", found ? "," : "{", core, (long long)khz);
    found = true;
  }
  fputs(found ? "}" : "null", out);
}

/* Writes the temperature of each entry of a folder by `name`; a few vendors give thermal zones in whole degrees. */
static bool write_folder(FILE *out, const char *folder, const char *prefix, bool found, bool *denied) {
  bool zone = *prefix != '\0';
  char path[PATH_MAX], type[64], name[512];
  struct dirent **entries;
  snprintf(path, sizeof path, "%s/%s", options.sys, folder);
  int count = scandir(path, &entries, NULL, alphasort);
  if (count < 0 && (errno == EACCES || errno == EPERM)) *denied = true;
  for (int i = 0; i < count; i++) {
    const char *entry = entries[i]->d_name;
    long value;
    snprintf(path, sizeof path, "%s/%s/%s/temp", options.sys, folder, entry);
    if (entry[0] != '.' && strncmp(entry, prefix, strlen(prefix)) == 0 && read_number(path, &value, denied)) {
      snprintf(path, sizeof path, "%s/%s/%s/type", options.sys, folder, entry);
      bool typed = read_first_line(path, type, sizeof type, NULL);
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

void write_state(FILE *out) {
  int cores[MAX_CORES];
  size_t count = allowed_cores(cores, MAX_CORES);
  bool no_frequencies = false, no_temperatures = false;
  fputs(",\"affinity\":", out);
  for (size_t i = 0; i < count; i++) fprintf(out, "%s%d", i ? "," : "[", cores[i]);
  fputs(count ? "]" : "null", out);
  write_frequencies(out, &no_frequencies);
  fputs(",\"temperature_c\":", out);
  bool found = write_folder(out, "class/thermal", "thermal_zone", false, &no_temperatures);
  found = write_folder(out, "class/power_supply", "", found, &no_temperatures);
  fputs(found ? "}" : "null", out);
  int64_t bytes = available_bytes();
  if (bytes >= 0) fprintf(out, ",\"memory_available_bytes\":%lld", (long long)bytes);
  else fputs(",\"memory_available_bytes\":null", out);
  fprintf(out, ",\"denied\":[%s%s%s]", no_frequencies ? "\"freq_khz\"" : "",
          no_frequencies && no_temperatures ? "," : "", no_temperatures ? "\"temperature_c\"" : "");
}
