/* The native benchmark agent: loads models, times them, and answers in JSON lines (docs/devices/agent-protocol.md).
 *
 * It times what it is told to time and decides nothing. It ends on `bye`, when its input ends, or at its deadline. The
 * runtimes' libraries are opened at run time, from --library-path or from the folder the agent lies in.
 *
 * usage: agent [--threads N] [--cores big] [--deadline-s S] [--memory-bytes N] [--library-path DIR[:DIR]]
 *              [--runtime-version NAME=V] [--sys DIR]                                                                */
#define _GNU_SOURCE
#include "cores.h"
#include "input.h"
#include "options.h"
#include "replies.h"
#include "requests.h"
#include "runtimes.h"

#include <signal.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

static void on_deadline(int signal_number) {
  (void)signal_number;
  _exit(4);
}

static void start_deadline(void) {
  struct itimerval timer = {{0, 0}, {(time_t)options.deadline_s, 0}};
  if (options.deadline_s <= 0) return;
  timer.it_value.tv_usec = (suseconds_t)((options.deadline_s - (double)timer.it_value.tv_sec) * 1e6);
  if (timer.it_value.tv_sec == 0 && timer.it_value.tv_usec == 0) timer.it_value.tv_usec = 1;
  signal(SIGALRM, on_deadline);
  setitimer(ITIMER_REAL, &timer, NULL);
}

static void answer_all(void) {
  char *line;
  size_t bytes;
  while (next_line(&line, &bytes)) {
    if (!line) reply_error(NULL);
    else if (!answer(line, bytes)) return;
  }
}

int main(int count, char **arguments) {
  parse_options(count, arguments);
  open_replies();
  signal(SIGPIPE, SIG_IGN);
  signal(SIGXFSZ, SIG_IGN); /* a file that may not grow is an answer */
  start_deadline();
  if (options.cores && !bind_to_cores(options.cores)) {
    reply_error(NULL);
    _exit(3);
  }
  const char *own_path = strchr(arguments[0], '/') ? arguments[0] : "/proc/self/exe"; /* a loader's is not ours */
  open_runtimes(own_path);
  hello(own_path);
  answer_all();
  _exit(0); /* skip the runtimes' exit handlers, which can hang with threads alive */
}
