/* Cores: the clusters they form, and binding the agent to some of them. */
#ifndef CORES_H
#define CORES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

enum { MAX_CORES = 1024 };

int current_core(void);                         /* -1 where the system does not tell */
size_t allowed_cores(int *cores, size_t limit); /* 0 where the system does not tell */
bool bind_to_cores(const char *wanted);         /* big,middle 0-3 …; false after fail() */
bool still_bound(void);                         /* false after fail() where the system took the agent off its cores */
void write_clusters(FILE *out);                 /* [{"capacity":…,"max_khz":…,"cores":[…]},…], the weakest first, or null */

#endif
