/* The system: clocks, memory, what the device is called, and its files; -1 or false is what it does not tell. */
#ifndef SYSTEM_H
#define SYSTEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

int64_t clock_ns(bool thread_cpu);
int64_t resident_bytes(void);
int64_t peak_bytes(void); /* the most since the process began, or since the peak was lowered to what is occupied */
bool lower_peak(void);    /* false where that is not allowed */
int64_t available_bytes(void);

enum { NAME_BYTES = 200 };

/* Read what device, processor and system are called, as Android tells it or else /proc; false where it does not. */
bool read_device_model(char text[2 * NAME_BYTES]);
void read_processor_name(char text[2 * NAME_BYTES]);
void read_system_name(char *text, size_t bytes);

/* Read the first line of a file, or the number in it; they set `denied` where there is one that may not be read. */
bool read_first_line(const char *path, char *line, size_t bytes, bool *denied);
bool read_number(const char *path, long *value, bool *denied);

#endif
