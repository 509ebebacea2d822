/* Writes replies. */
#define _GNU_SOURCE
#include "replies.h"

#include "failure.h"

#include <string.h>
#include <unistd.h>

FILE *replies;

void open_replies(void) {
  replies = fdopen(dup(1), "w");
  if (!replies || dup2(2, 1) < 0) _exit(3);
}

void begin_reply(const Json *id, const char *event) {
  if (id && id->type == JSON_NUMBER) fprintf(replies, "{\"id\":%.0f,\"event\":\"%s\"", id->number, event);
  else fprintf(replies, "{\"id\":null,\"event\":\"%s\"", event);
}

void write_text(const char *key, const char *text, size_t bytes) {
  fprintf(replies, ",\"%s\":", key);
  json_write_string(replies, text, bytes);
}

void write_integer(const char *key, int64_t value, bool known) {
  if (known) fprintf(replies, ",\"%s\":%lld", key, (long long)value);
  else fprintf(replies, ",\"%s\":null", key);
}

void write_integers(const char *key, const int64_t *values, size_t count) {
  fprintf(replies, ",\"%s\":[", key);
  for (size_t i = 0; i < count; i++) fprintf(replies, "%s%lld", i ? "," : "", (long long)values[i]);
  fputc(']', replies);
}

void end_reply(void) {
  fputs("}\n", replies);
  if (fflush(replies) != 0) _exit(3); /* the host is gone: nobody to answer */
}

void reply_error(const Json *id) {
  begin_reply(id, "error");
  write_text("message", failure(), strlen(failure()));
  end_reply();
}
