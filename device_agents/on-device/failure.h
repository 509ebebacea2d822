/* Failures: said in words, kept until the request is answered. */
#ifndef FAILURE_H
#define FAILURE_H

#include <stdbool.h>

#if defined(__GNUC__)
__attribute__((format(printf, 1, 2)))
#endif
bool fail(const char *format, ...); /* keeps the message and returns false */
bool fail_because(const char *what); /* puts `what` before the message that is kept, and returns false */
const char *failure(void);

#endif
