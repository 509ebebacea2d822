/* Replies: one JSON object a line, to a standard output of their own. */
#ifndef REPLIES_H
#define REPLIES_H

#include "json.h"

extern FILE *replies; /* what is written between begin_reply and end_reply is part of the object */

void open_replies(void); /* whatever a runtime prints goes to stderr from now on and cannot garble the protocol */
void begin_reply(const Json *id, const char *event);
void write_text(const char *key, const char *text, size_t bytes);
void write_integer(const char *key, int64_t value, bool known); /* null if it is not known */
void write_integers(const char *key, const int64_t *values, size_t count);
void end_reply(void);             /* ends the process where nobody reads any more */
void reply_error(const Json *id); /* a whole reply, with the failure's message */

#endif
