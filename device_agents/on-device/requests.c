/* Answers requests: one function each, and the timing. */
#define _GNU_SOURCE
#include "requests.h"

#include "cores.h"
#include "failure.h"
#include "files.h"
#include "options.h"
#include "replies.h"
#include "runtimes.h"
#include "sha256.h"
#include "state.h"
#include "system.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef AGENT_VERSION
#define AGENT_VERSION "unversioned"
#endif

enum { PROTOCOL = 2, MAX_VISITS = 100000, MAX_RUNS = 100000, EMPTY_SAMPLES = 1001 };

static struct {
  Model **all;
  size_t count;
} models;

/* ---- models ---- */

static size_t find_model(const char *name, size_t bytes) {
  size_t at = 0;
  while (at < models.count &&
         (models.all[at]->name_bytes != bytes || memcmp(models.all[at]->name, name, bytes) != 0)) {
    at++;
  }
  return at;
}

static void discard(Model *model) {
  free(model->name);
  model->destroy(model);
}

/* ---- timing ---- */

static bool run_nothing(Model *model) {
  (void)model;
  return true;
}

/* Times a model so many times in a row. */
static bool time_runs(Model *model, size_t runs, int64_t *wall_ns, int64_t *cpu_ns) {
  for (size_t i = 0; i < runs; i++) {
    int64_t cpu_start = clock_ns(true), wall_start = clock_ns(false);
    bool done = model->run(model);
    int64_t wall_end = clock_ns(false);
    cpu_ns[i] = clock_ns(true) - cpu_start;
    wall_ns[i] = wall_end - wall_start;
    if (!done) return false;
  }
  return true;
}

static int compare_ns(const void *a, const void *b) {
  int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
  return (x > y) - (x < y);
}

/* Returns the median of samples of nothing: what the clock adds to every sample. */
static int64_t overhead_ns(void) {
  static int64_t wall_ns[EMPTY_SAMPLES], cpu_ns[EMPTY_SAMPLES];
  Model nothing = {.run = run_nothing};
  time_runs(&nothing, EMPTY_SAMPLES, wall_ns, cpu_ns);
  qsort(wall_ns, EMPTY_SAMPLES, sizeof *wall_ns, compare_ns);
  return wall_ns[EMPTY_SAMPLES / 2];
}

/* ---- requests ---- */

void hello(const char *own_path) {
  char hash[65] = "unknown", text[1024];
  int cores[MAX_CORES];
  int64_t wide[MAX_CORES];
  file_sha256(own_path, hash);
  begin_reply(NULL, "hello");
  write_integer("protocol", PROTOCOL, true);
  snprintf(text, sizeof text, "native " AGENT_VERSION ", agent sha256:%.12s", hash);
  write_text("agent", text, strlen(text));
  fputs(",\"runtimes\":{", replies);
  const char *before = "";
  for (const Runtime *runtime = NULL; (runtime = next_runtime(runtime));) {
    if (!*runtime->found) continue;
    fprintf(replies, "%s\"%s\":", before, runtime->name);
    json_write_string(replies, runtime->found, strlen(runtime->found));
    before = ",";
  }
  fputc('}', replies);
  write_integer("threads", options.threads, true);
  size_t count = allowed_cores(cores, MAX_CORES);
  for (size_t i = 0; i < count; i++) wide[i] = cores[i];
  if (count) write_integers("cores", wide, count);
  else fputs(",\"cores\":null", replies);
  fputs(",\"clusters\":", replies);
  write_clusters(replies);
  fprintf(replies, ",\"clocks\":[\"wall\"%s]", options.threads == 1 ? ",\"thread_cpu\"" : "");
  write_integer("overhead_ns", overhead_ns(), true);
  fputs(",\"takes_inputs\":true", replies);
  read_processor_name(text);
  write_text("soc", text, strlen(text));
  read_system_name(text, sizeof text);
  write_text("system", text, strlen(text));
  if (read_device_model(text)) write_text("device_model", text, strlen(text));
  end_reply();
}

static bool within_memory(int64_t more_bytes) {
  int64_t bytes = resident_bytes();
  if (!options.memory_bytes || bytes < 0 || bytes + more_bytes <= options.memory_bytes) return true;
  return fail("the model does not fit: the agent may take %lld bytes and has %lld; unload models first",
              (long long)options.memory_bytes, (long long)bytes);
}

static bool keep(Model *model, const Json *name) {
  model->name = malloc(name->text_bytes + 1);
  if (!model->name) return fail("out of memory");
  memcpy(model->name, name->text, name->text_bytes + 1);
  model->name_bytes = name->text_bytes;
  size_t at = find_model(name->text, name->text_bytes);
  if (at < models.count) {
    discard(models.all[at]); /* only now, so that the new one lies elsewhere in memory */
  } else {
    Model **all = realloc(models.all, (models.count + 1) * sizeof *all);
    if (!all) return fail("out of memory");
    models.all = all;
    models.count++;
  }
  models.all[at] = model;
  return true;
}

/* Returns the runtime of a request; NULL after fail(). */
static const Runtime *find_runtime(const char *name) {
  char known[1000] = "";
  for (const Runtime *runtime = NULL; (runtime = next_runtime(runtime));) {
    if (strcmp(name, runtime->name) == 0) {
      if (*runtime->found) return runtime;
      return fail("%s is not here: no file %s… in the library path", name, runtime->library), NULL;
    }
    size_t at = strlen(known);
    snprintf(known + at, sizeof known - at, "%s%s", at ? ", " : "", runtime->name);
  }
  return fail("unknown runtime '%.200s'; known: %s", name, known), NULL;
}

/* Runs a model for the first time; the peak is that of the memory until then. */
static bool first_run(Model *model, Outputs *outputs, int64_t *first_ns, int64_t *peak) {
  int64_t start = clock_ns(false);
  bool ran = model->run(model);
  *first_ns = clock_ns(false) - start;
  *peak = peak_bytes();
  if (!ran || !model->outputs(model, outputs) || !within_memory(0)) return false;
  return isfinite(outputs->abs_sum) || fail("the model computes NaN or infinity from its inputs");
}

static bool load(const Json *request) {
  const Json *name = json_name(request, "model"), *path = name ? json_text(request, "path") : NULL;
  const Json *wanted = path ? json_text(request, "runtime") : NULL;
  struct stat file;
  Outputs outputs = {0};
  Feed feed;
  int64_t first_ns, peak;
  if (!wanted) return false;
  const Runtime *runtime = find_runtime(wanted->text);
  if (!runtime) return false;
  if (stat(path->text, &file) != 0) return fail("cannot open the model %s: %s", path->text, strerror(errno));
  if (!S_ISREG(file.st_mode)) return fail("the model %s is no file", path->text);
  if (!within_memory(file.st_size) || !open_feed(&feed, request)) return false;
  int64_t before = resident_bytes(), earlier = lower_peak() ? -1 : peak_bytes(), start = clock_ns(false);
  Model *model = runtime->load(path->text, options.threads, &feed);
  int64_t load_ns = clock_ns(false) - start;
  close_feed(&feed);
  if (!model) return false;
  bool ran = first_run(model, &outputs, &first_ns, &peak);
  int64_t after = resident_bytes();
  if (!ran || !keep(model, name)) {
    discard(model);
    return false;
  }
  begin_reply(json_member(request, "id"), "loaded");
  write_text("model", name->text, name->text_bytes);
  write_integer("load_ns", load_ns, true);
  write_integer("first_ns", first_ns, true);
  write_integer("peak_bytes", peak > before ? peak - before : 0, before >= 0 && peak >= 0 && peak != earlier);
  write_integer("memory_bytes", after > before ? after - before : 0, before >= 0 && after >= 0);
  write_integer("outputs", outputs.count, true);
  fputs(",\"output_sum\":", replies);
  json_write_number(replies, outputs.sum);
  fputs(",\"output_abs_sum\":", replies);
  json_write_number(replies, outputs.abs_sum);
  end_reply();
  return true;
}

static bool run_visit(const Json *request, const Json *visit, size_t index) {
  static int64_t wall_ns[MAX_RUNS], cpu_ns[MAX_RUNS];
  int64_t runs;
  const Json *name = json_member(visit, "model");
  if (visit->type != JSON_OBJECT || !name || name->type != JSON_STRING) return fail("visit %zu: no model", index);
  size_t at = find_model(name->text, name->text_bytes);
  if (at == models.count) return fail("visit %zu: model '%.500s' is not loaded", index, name->text);
  if (!json_integer(json_member(visit, "runs"), 1, MAX_RUNS, &runs)) {
    return fail("visit %zu: runs are a number from 1 to %d", index, MAX_RUNS);
  }
  int64_t start_ns = clock_ns(false);
  if (!time_runs(models.all[at], (size_t)runs, wall_ns, cpu_ns)) return false;
  int core = current_core();
  int64_t khz = frequency_khz(core);
  if (!still_bound()) return false;
  begin_reply(json_member(request, "id"), "visit");
  write_integer("index", (int64_t)index, true);
  write_text("model", name->text, name->text_bytes);
  write_integer("start_ns", start_ns, true);
  write_integers("wall_ns", wall_ns, (size_t)runs);
  if (options.threads == 1) write_integers("cpu_ns", cpu_ns, (size_t)runs);
  else fputs(",\"cpu_ns\":null", replies); /* with more threads it is the caller's time only */
  write_integer("core", core, core >= 0);
  write_integer("freq_khz", khz, khz >= 0);
  end_reply();
  return true;
}

static bool run(const Json *request) {
  const Json *schedule = json_member(request, "schedule");
  size_t visits = 0;
  if (!schedule || schedule->type != JSON_ARRAY) return fail("the request has no \"schedule\" that is an array");
  for (const Json *visit = json_child(schedule, NULL); visit; visit = json_child(schedule, visit)) {
    if (++visits > MAX_VISITS) return fail("a schedule has at most %d visits", MAX_VISITS);
  }
  visits = 0;
  for (const Json *visit = json_child(schedule, NULL); visit; visit = json_child(schedule, visit)) {
    if (!run_visit(request, visit, visits++)) return false;
  }
  begin_reply(json_member(request, "id"), "done");
  write_integer("visits", (int64_t)visits, true);
  end_reply();
  return true;
}

static bool unload(const Json *request) {
  const Json *name = json_name(request, "model");
  if (!name) return false;
  size_t at = find_model(name->text, name->text_bytes);
  if (at == models.count) return fail("model '%.500s' is not loaded", name->text);
  discard(models.all[at]);
  models.all[at] = models.all[--models.count];
  begin_reply(json_member(request, "id"), "unloaded");
  write_text("model", name->text, name->text_bytes);
  end_reply();
  return true;
}

static bool state(const Json *request) {
  int core = current_core();
  begin_reply(json_member(request, "id"), "state");
  write_integer("core", core, core >= 0);
  write_state(replies);
  end_reply();
  return true;
}

static bool write_here(const Json *request) {
  if (!write_file(request)) return false;
  begin_reply(json_member(request, "id"), "written");
  end_reply();
  return true;
}

bool answer(char *line, size_t bytes) {
  static const struct {
    const char *name;
    bool (*handle)(const Json *request);
  } operations[] = {{"write", write_here}, {"load", load}, {"run", run}, {"unload", unload}, {"state", state}};
  int64_t number;
  const Json *request = json_parse(line, bytes);
  if (!request || request->type != JSON_OBJECT) {
    if (request) fail("a request is an object");
    fail_because("not a request");
    reply_error(NULL);
    return true;
  }
  const Json *id = json_member(request, "id"), *operation = json_member(request, "op");
  if (id && id->type != JSON_NULL && !json_integer(id, -(1LL << 53), 1LL << 53, &number)) {
    fail("not a request: its id is no whole number");
    reply_error(NULL);
    return true;
  }
  const char *name = operation && operation->type == JSON_STRING ? operation->text : "";
  if (strcmp(name, "bye") == 0) {
    begin_reply(id, "bye");
    end_reply();
    return false;
  }
  for (size_t i = 0; i < sizeof operations / sizeof *operations; i++) {
    if (strcmp(name, operations[i].name) != 0) continue;
    if (!operations[i].handle(request)) reply_error(id);
    return true;
  }
  fail("unknown operation '%.200s'; known: write, load, run, unload, state, bye", name);
  reply_error(id);
  return true;
}
