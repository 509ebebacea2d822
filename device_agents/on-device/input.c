/* Reads standard input through one buffer, from which lines and the bytes that follow them are taken. */
#include "input.h"

#include "failure.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

enum { MAX_LINE_BYTES = 4 << 20 };

/* What has been read and not been taken yet. */
static struct {
  char buffer[MAX_LINE_BYTES + 1];
  size_t start, end;
  bool skipping; /* the rest of a line that is too long */
} input;

/* Reads more of the input to `out`; 0 where it ended. */
static size_t read_input(void *out, size_t bytes) {
  ssize_t got;
  do got = read(0, out, bytes);
  while (got < 0 && errno == EINTR);
  return got > 0 ? (size_t)got : 0;
}

bool next_line(char **line, size_t *bytes) {
  for (;;) {
    char *start = input.buffer + input.start;
    size_t held = input.end - input.start;
    char *newline = memchr(start, '\n', held);
    if (newline) {
      *newline = '\0';
      *line = start;
      *bytes = (size_t)(newline - start);
      input.start += *bytes + 1;
      if (!input.skipping) return true;
      input.skipping = false;
      continue;
    }
    memmove(input.buffer, start, held);
    input.start = 0;
    input.end = input.skipping ? 0 : held;
    if (input.end == MAX_LINE_BYTES) {
      input.skipping = true;
      *line = NULL;
      fail("not a request: longer than %d bytes", MAX_LINE_BYTES);
      return true;
    }
    size_t got = read_input(input.buffer + input.end, MAX_LINE_BYTES - input.end);
    input.end += got;
    if (got) continue;
    *line = input.buffer; /* the last line, which does not end */
    *bytes = input.start = input.end;
    input.buffer[input.end] = '\0';
    return *bytes > 0;
  }
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
