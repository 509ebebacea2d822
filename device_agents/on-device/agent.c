/* The native benchmark agent: loads models, times them, and answers in JSON lines (docs/devices/agent-protocol.md).
 *
 * It times what it is told to time and decides nothing. It ends on `bye`, when its input ends, or at its deadline. The
 * runtimes' libraries are opened at run time, from --library-path or from the folder the agent lies in.
 *
 * usage: agent [--threads N] [--cores big] [--deadline-s S] [--memory-bytes N] [--library-path DIR[:DIR]]
 *              [--litert-version V] [--sys DIR]                                                                      */
#define _GNU_SOURCE
#include "agent.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

enum { MAX_LINE_BYTES = 4 << 20 };

Agent agent = {.threads = 1, .sys = "/sys"};

static void usage(const char *what) {
  fprintf(stderr, "agent: %s\nusage: agent [--threads N] [--cores big] [--deadline-s S] [--memory-bytes N]\n"
                  "             [--library-path DIR[:DIR]] [--litert-version V] [--sys DIR]\n", what);
  _exit(2);
}

static double number_option(const char *text, double least, double most) {
  char *end_of_number;
  double value = strtod(text, &end_of_number);
  if (end_of_number == text || *end_of_number || !(value >= least && value <= most)) usage(text);
  return value;
}

static void parse_options(int count, char **options) {
  for (int i = 1; i < count; i += 2) {
    const char *name = options[i];
    if (i + 1 >= count) usage(name);
    char *value = options[i + 1];
    if (strcmp(name, "--threads") == 0) agent.threads = (int)number_option(value, 1, 1024);
    else if (strcmp(name, "--cores") == 0) agent.cores_wanted = value;
    else if (strcmp(name, "--deadline-s") == 0) agent.deadline_s = number_option(value, 0, 1e8);
    else if (strcmp(name, "--memory-bytes") == 0) agent.memory_bytes = (int64_t)number_option(value, 1, 1e15);
    else if (strcmp(name, "--library-path") == 0) agent.library_path = value;
    else if (strcmp(name, "--litert-version") == 0) agent.litert_version = value;
    else if (strcmp(name, "--sys") == 0) agent.sys = value;
    else usage(name);
  }
}

static void on_deadline(int signal_number) {
  (void)signal_number;
  _exit(4);
}

static void start_deadline(void) {
  struct itimerval timer = {{0, 0}, {(time_t)agent.deadline_s, 0}};
  if (agent.deadline_s <= 0) return;
  timer.it_value.tv_usec = (suseconds_t)((agent.deadline_s - (double)timer.it_value.tv_sec) * 1e6);
  if (timer.it_value.tv_sec == 0 && timer.it_value.tv_usec == 0) timer.it_value.tv_usec = 1;
  signal(SIGALRM, on_deadline);
  setitimer(ITIMER_REAL, &timer, NULL);
}

/* What has been read of the input and not been taken yet. */
static struct {
  char *buffer;
  size_t start, end;
} input;

/* Reads more of the input to `out`; 0 where it ended. */
static size_t read_input(void *out, size_t bytes) {
  ssize_t got;
  do got = read(0, out, bytes);
  while (got < 0 && errno == EINTR);
  return got > 0 ? (size_t)got : 0;
}

bool read_following(void *out, size_t bytes) {
  size_t held = input.end - input.start < bytes ? input.end - input.start : bytes;
  memcpy(out, input.buffer + input.start, held);
  input.start += held;
  for (size_t got; held < bytes; held += got) {
    if (!(got = read_input((char *)out + held, bytes - held))) return fail("the input ended");
  }
  return true;
}

/* Answers line after line; a line that is too long is answered by an error and skipped. */
static void answer_all(void) {
  bool skipping = false;
  if (!(input.buffer = malloc(MAX_LINE_BYTES + 1))) return;
  for (;;) {
    char *line = input.buffer + input.start;
    size_t held = input.end - input.start, got;
    char *newline = memchr(line, '\n', held);
    if (newline) {
      *newline = '\0';
      input.start += (size_t)(newline - line) + 1;
      if (!skipping && !answer(line, (size_t)(newline - line))) return;
      skipping = false;
      continue;
    }
    memmove(input.buffer, line, held);
    if (held == MAX_LINE_BYTES && !skipping) {
      fail("not a request: longer than %d bytes", MAX_LINE_BYTES);
      reply_error(NULL);
      skipping = true;
    }
    input.start = 0;
    input.end = skipping ? 0 : held;
    if (!(got = read_input(input.buffer + input.end, MAX_LINE_BYTES - input.end))) break;
    input.end += got;
  }
  if (input.end) {
    input.buffer[input.end] = '\0';
    answer(input.buffer, input.end);
  }
}

int main(int count, char **options) {
  parse_options(count, options);
  /* Replies get a stdout of their own: whatever a runtime prints goes to stderr and cannot garble the protocol. */
  agent.replies = fdopen(dup(1), "w");
  if (!agent.replies || dup2(2, 1) < 0) _exit(3);
  signal(SIGPIPE, SIG_IGN);
  signal(SIGXFSZ, SIG_IGN); /* a file that may not grow is an answer */
  start_deadline();
  if (agent.cores_wanted && !bind_to_cores(agent.cores_wanted)) {
    reply_error(NULL);
    _exit(3);
  }
  setenv("ORT_DISABLE_TELEMETRY", "1", 1); /* before the library is opened */
  const char *own_path = strchr(options[0], '/') ? options[0] : "/proc/self/exe"; /* a loader's is not ours */
  open_runtimes(own_path);
  hello(own_path);
  answer_all();
  _exit(0); /* skip the runtimes' exit handlers, which can hang with threads alive */
}
