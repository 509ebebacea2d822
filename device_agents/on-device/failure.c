/* Keeps the message of what failed last. */
#include "failure.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static char message[2000];

bool fail(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(message, sizeof message, format, arguments);
  va_end(arguments);
  return false;
}

const char *failure(void) { return message; }

bool fail_because(const char *what) {
  char why[sizeof message];
  memcpy(why, message, sizeof why);
  return fail("%.100s: %.1800s", what, why);
}
