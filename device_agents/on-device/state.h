/* State: what changes while a device is measured. */
#ifndef STATE_H
#define STATE_H

#include <stdint.h>
#include <stdio.h>

int64_t frequency_khz(int core); /* -1 where the system does not tell */
void write_state(FILE *out);     /* the fields of a state, from affinity to denied */

#endif
