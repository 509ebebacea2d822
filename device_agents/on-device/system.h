/* The system: clocks, memory, the processor's name, and its files; -1 or false is what it does not tell. */
#ifndef SYSTEM_H
#define SYSTEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

int64_t clock_ns(bool thread_cpu);
int64_t resident_bytes(void);
int64_t available_bytes(void);
void write_processor_name(FILE *out);

/* Read the first line of a file, or the number in it; they set `denied` where there is one that may not be read. */
bool read_first_line(const char *path, char *line, size_t bytes, bool *denied);
bool read_number(const char *path, long *value, bool *denied);

#endif
