/* Requests: what a host may ask. */
#ifndef REQUESTS_H
#define REQUESTS_H

#include <stdbool.h>
#include <stddef.h>

void hello(const char *own_path);
bool answer(char *line, size_t bytes); /* one line, which it changes; false after the last request */

#endif
