/* Answers requests: one function each, and the timing. */
#define _GNU_SOURCE
#include "agent.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#ifndef AGENT_VERSION
#define AGENT_VERSION "unversioned"
#endif

enum { PROTOCOL = 2, MAX_VISITS = 100000, MAX_RUNS = 100000, EMPTY_SAMPLES = 1001 };

static struct {
  Model **all;
  size_t count;
} models;

/* ---- replies ---- */

static void begin(const Json *id, const char *event) {
  if (id && id->type == JSON_NUMBER) fprintf(agent.replies, "{\"id\":%.0f,\"event\":\"%s\"", id->number, event);
  else fprintf(agent.replies, "{\"id\":null,\"event\":\"%s\"", event);
}

static void write_name(const char *key, const char *text, size_t bytes) {
  fprintf(agent.replies, ",\"%s\":", key);
  json_write_string(agent.replies, text, bytes);
}

static void write_integer(const char *key, int64_t value, bool known) {
  if (known) fprintf(agent.replies, ",\"%s\":%lld", key, (long long)value);
  else fprintf(agent.replies, ",\"%s\":null", key);
}

static void write_integers(const char *key, const int64_t *values, size_t count) {
  fprintf(agent.replies, ",\"%s\":[", key);
  for (size_t i = 0; i < count; i++) fprintf(agent.replies, "%s%lld", i ? "," : "", (long long)values[i]);
  fputc(']', agent.replies);
}

static void end(void) {
  fputs("}\n", agent.replies);
  if (fflush(agent.replies) != 0) _exit(3); /* the host is gone: nobody to answer */
}

void reply_error(const Json *id) {
  begin(id, "error");
  write_name("message", failure(), strlen(failure()));
  end();
}

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
  char hash[65] = "unknown", text[512];
  struct utsname system;
  int cores[MAX_CORES];
  int64_t wide[MAX_CORES];
  file_sha256(own_path, hash);
  begin(NULL, "hello");
  write_integer("protocol", PROTOCOL, true);
  snprintf(text, sizeof text, "native " AGENT_VERSION ", agent sha256:%.12s", hash);
  write_name("agent", text, strlen(text));
  fputs(",\"runtimes\":{", agent.replies);
  for (int i = 0, found = 0; i < RUNTIMES; i++) {
    if (!*agent.versions[i]) continue;
    fprintf(agent.replies, "%s\"%s\":", found++ ? "," : "", runtimes[i]->name);
    json_write_string(agent.replies, agent.versions[i], strlen(agent.versions[i]));
  }
  fputc('}', agent.replies);
  write_integer("threads", agent.threads, true);
  size_t count = allowed_cores(cores, MAX_CORES);
  for (size_t i = 0; i < count; i++) wide[i] = cores[i];
  if (count) write_integers("cores", wide, count);
  else fputs(",\"cores\":null", agent.replies);
  fputs(",\"clusters\":", agent.replies);
  write_clusters(agent.replies);
  fprintf(agent.replies, ",\"clocks\":[\"wall\"%s]", agent.threads == 1 ? ",\"thread_cpu\"" : "");
  write_integer("overhead_ns", overhead_ns(), true);
  fputs(",\"soc\":", agent.replies);
  write_processor_name(agent.replies);
  bool known = uname(&system) >= 0;
  snprintf(text, sizeof text, "%.100s %.100s %.100s", known ? system.sysname : "", known ? system.release : "",
           known ? system.machine : "");
  write_name("system", text, strlen(text));
  end();
}

const Json *text_member(const Json *request, const char *key) {
  const Json *value = json_member(request, key);
  if (value && value->type == JSON_STRING && (strcmp(key, "model") == 0 || strlen(value->text) == value->text_bytes)) {
    return value;
  }
  fail("the request has no \"%s\" that is a text", key);
  return NULL;
}

static bool within_memory(int64_t more_bytes) {
  int64_t bytes = resident_bytes();
  if (!agent.memory_bytes || bytes < 0 || bytes + more_bytes <= agent.memory_bytes) return true;
  return fail("the model does not fit: the agent may take %lld bytes and has %lld; unload models first",
              (long long)agent.memory_bytes, (long long)bytes);
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

static bool load(const Json *request) {
  const Json *name = text_member(request, "model"), *path = text_member(request, "path");
  const Json *wanted = text_member(request, "runtime");
  const Runtime *runtime = NULL;
  struct stat file;
  Outputs outputs = {0};
  if (!name || !path || !wanted) return false;
  for (int i = 0; i < RUNTIMES; i++) {
    if (strcmp(wanted->text, runtimes[i]->name) != 0) continue;
    if (!*agent.versions[i]) return fail("%s is not here: no file %s… in the library path", wanted->text, runtimes[i]->library);
    runtime = runtimes[i];
  }
  if (!runtime) return fail("unknown runtime '%.200s'; known: litert, onnxruntime", wanted->text);
  if (stat(path->text, &file) != 0) return fail("cannot open the model %s: %s", path->text, strerror(errno));
  if (!S_ISREG(file.st_mode)) return fail("the model %s is no file", path->text);
  if (!within_memory(file.st_size)) return false;
  int64_t before = resident_bytes(), start = clock_ns(false);
  Model *model = runtime->load(path->text, agent.threads);
  int64_t load_ns = clock_ns(false) - start;
  if (!model) return false;
  bool ran = model->run(model) && model->outputs(model, &outputs) && within_memory(0);
  int64_t after = resident_bytes();
  if (!ran || !keep(model, name)) {
    discard(model);
    return false;
  }
  begin(json_member(request, "id"), "loaded");
  write_name("model", name->text, name->text_bytes);
  write_integer("load_ns", load_ns, true);
  write_integer("memory_bytes", after > before ? after - before : 0, before >= 0 && after >= 0);
  write_integer("outputs", outputs.count, true);
  fputs(",\"output_sum\":", agent.replies);
  json_write_number(agent.replies, outputs.sum);
  fputs(",\"output_abs_sum\":", agent.replies);
  json_write_number(agent.replies, outputs.abs_sum);
  end();
  return true;
}

/* Hotplug and power management may undo what the agent was bound to. */
static bool still_bound(void) {
  int cores[MAX_CORES];
  size_t count = agent.core_count ? allowed_cores(cores, MAX_CORES) : 0;
  if (count == agent.core_count && memcmp(cores, agent.cores, count * sizeof *cores) == 0) return true;
  return fail("the system took the agent off the cores that it was bound to");
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
  int64_t khz = frequency_khz(agent.sys, core);
  if (!still_bound()) return false;
  begin(json_member(request, "id"), "visit");
  write_integer("index", (int64_t)index, true);
  write_name("model", name->text, name->text_bytes);
  write_integer("start_ns", start_ns, true);
  write_integers("wall_ns", wall_ns, (size_t)runs);
  if (agent.threads == 1) write_integers("cpu_ns", cpu_ns, (size_t)runs);
  else fputs(",\"cpu_ns\":null", agent.replies); /* with more threads it is the caller's time only */
  write_integer("core", core, core >= 0);
  write_integer("freq_khz", khz, khz >= 0);
  end();
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
  begin(json_member(request, "id"), "done");
  write_integer("visits", (int64_t)visits, true);
  end();
  return true;
}

static bool unload(const Json *request) {
  const Json *name = text_member(request, "model");
  if (!name) return false;
  size_t at = find_model(name->text, name->text_bytes);
  if (at == models.count) return fail("model '%.500s' is not loaded", name->text);
  discard(models.all[at]);
  models.all[at] = models.all[--models.count];
  begin(json_member(request, "id"), "unloaded");
  write_name("model", name->text, name->text_bytes);
  end();
  return true;
}

static bool state(const Json *request) {
  int core = current_core();
  begin(json_member(request, "id"), "state");
  write_integer("core", core, core >= 0);
  write_state(agent.replies, agent.sys);
  end();
  return true;
}

static bool write_here(const Json *request) {
  if (!write_file(request)) return false;
  begin(json_member(request, "id"), "written");
  end();
  return true;
}

/* Answers one line; false after the last request. */
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
    begin(id, "bye");
    end();
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
