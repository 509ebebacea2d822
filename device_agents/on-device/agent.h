/* What the parts of the native agent share: agent.c is the process, requests.c answers, files.c writes files, json.c
 * reads and writes JSON, runtimes.c opens the runtimes' libraries, litert.c and ort.c run models, cores.c knows the
 * cores, system.c asks the rest of the system.                                                                       */
#ifndef AGENT_H
#define AGENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* ---- failures: said in words, kept until the request is answered ---- */

#if defined(__GNUC__)
__attribute__((format(printf, 1, 2)))
#endif
bool fail(const char *format, ...); /* keeps the message and returns false */
bool fail_because(const char *what); /* puts `what` before the message that is kept, and returns false */
const char *failure(void);

/* ---- json.c ---- */

typedef enum { JSON_NULL, JSON_FALSE, JSON_TRUE, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT } JsonType;

/* A value of a parsed line. Children of an array or object follow `first`, each by its `next`; 0 ends the chain. */
typedef struct {
  JsonType type;
  uint32_t first, next;
  const char *key, *text; /* point into the line, unescaped; NUL-terminated, but may hold NUL inside */
  size_t key_bytes, text_bytes;
  double number;
} Json;

/* Parses one line in place; returns its root, NULL after fail(). The values live until the next call. */
const Json *json_parse(char *line, size_t bytes);
const Json *json_child(const Json *parent, const Json *previous); /* previous NULL: the first; NULL at the end */
const Json *json_member(const Json *object, const char *key);     /* the last one of that name, NULL if none */
bool json_integer(const Json *value, int64_t least, int64_t most, int64_t *out); /* false if it is no such integer */

void json_write_string(FILE *out, const char *text, size_t bytes); /* what is not UTF-8 becomes U+FFFD */
void json_write_number(FILE *out, double value);                   /* null if not finite */

/* ---- models ---- */

/* What the tensors that go in and come out may hold. */
typedef enum { FLOAT32, INT8, UINT8 } Element;

typedef struct {
  int64_t count;
  double sum, abs_sum;
} Outputs;

/* A loaded model; each runtime's own structure begins with it. */
typedef struct Model Model;
struct Model {
  char *name;
  size_t name_bytes;
  bool (*run)(Model *model); /* false after fail() */
  bool (*outputs)(Model *model, Outputs *total);
  void (*destroy)(Model *model);
};

typedef struct {
  const char *name;             /* as requests name it */
  const char *library;          /* how the library's file name begins */
  bool (*open)(void *library);  /* looks its functions up */
  const char *(*version)(void); /* NULL where no function tells it */
  Model *(*load)(const char *path, int threads);
} Runtime;

enum { RUNTIMES = 2, MAX_CORES = 1024 };

extern const Runtime litert, onnxruntime, *const runtimes[RUNTIMES];

/* ---- the agent ---- */

typedef struct {
  int threads, cores[MAX_CORES];
  size_t core_count; /* 0: not bound */
  double deadline_s;
  int64_t memory_bytes; /* 0: no bound */
  const char *cores_wanted, *library_path, *litert_version, *sys;
  char versions[RUNTIMES][128]; /* empty: that runtime is not there */
  FILE *replies;
} Agent;

extern Agent agent;

/* ---- agent.c ---- */

bool read_following(void *out, size_t bytes); /* the bytes that follow a request; false after fail() at their end */

/* ---- files.c ---- */

bool write_file(const Json *request); /* from pieces of files and the bytes that follow, all of which are read */

/* ---- requests.c ---- */

void hello(const char *own_path);
const Json *text_member(const Json *request, const char *key); /* NULL after fail() */
void reply_error(const Json *id);      /* with the failure's message */
bool answer(char *line, size_t bytes); /* one line, which it changes; false after the last request */

/* ---- runtimes.c ---- */

void open_runtimes(const char *own_path);
bool find_function(void *library, const char *name, void *function, size_t bytes);
bool test_input_fits(int64_t *count, int64_t side); /* multiplies; false after fail() when a tensor grows too large */
bool known_element(const char *const *names, int code, Element *element); /* false after fail(); NULL ends names */
void fill_test_input(void *values, size_t count, Element element);
void add_outputs(Outputs *total, const void *values, size_t count, Element element);

/* ---- system.c: null, -1 or false is what the system does not tell ---- */

int64_t clock_ns(bool thread_cpu);
int64_t frequency_khz(const char *sys, int core);
int64_t resident_bytes(void);
int64_t available_bytes(void);
void write_state(FILE *out, const char *sys); /* the fields of a state, from affinity to denied */
void write_processor_name(FILE *out);
bool read_number(const char *path, long *value, bool *denied); /* sets `denied` where it may not be read */

/* ---- sha256.c ---- */

typedef struct {
  uint32_t state[8];
  uint8_t block[64];
  uint64_t bytes;
} Sha256;

void sha256_begin(Sha256 *hash);
void sha256_add(Sha256 *hash, const void *data, size_t bytes);
void sha256_end(Sha256 *hash, char hex[65]);
bool file_sha256(const char *path, char hex[65]);

/* ---- cores.c ---- */

int current_core(void);
size_t allowed_cores(int *cores, size_t limit); /* 0 where the system does not tell */
bool bind_to_cores(const char *wanted);         /* big, little, 0-3 … of agent.sys; keeps them in agent.cores */
void write_clusters(FILE *out);                 /* [{"max_khz":…,"cores":[…]},…], the slowest first, or null */

#endif
