/* Input: the lines that a host sends, and the bytes that follow some of them. */
#ifndef INPUT_H
#define INPUT_H

#include <stdbool.h>
#include <stddef.h>

/* Reads a line, which may be changed until the next call; false at the end of the input. One that is too long is
 * skipped: `line` is NULL after fail(). */
bool next_line(char **line, size_t *bytes);
bool read_following(void *out, size_t bytes); /* the bytes that follow the line; false after fail() at their end */

#endif
