/* JSON: what is parsed of a request, and what a reply is written with. */
#ifndef JSON_H
#define JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

typedef enum { JSON_NULL, JSON_FALSE, JSON_TRUE, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT } JsonType;

/* A value of a parsed line. Children of an array or object follow `first`, each by its `next`; 0 ends the chain. */
typedef struct {
  JsonType type;
  uint32_t first, next;
  const char *key, *text; /* point into the line, unescaped; NUL-terminated, but may hold NUL inside */
  size_t key_bytes, text_bytes;
  double number;
} Json;

/* Parses one line in place; returns its root, NULL after fail(). The values live until the next call. */
const Json *json_parse(char *line, size_t bytes);
const Json *json_child(const Json *parent, const Json *previous); /* previous NULL: the first; NULL at the end */
const Json *json_member(const Json *object, const char *key);     /* the last one of that name, NULL if none */
const Json *json_name(const Json *object, const char *key);       /* that is a text; NULL after fail() */
const Json *json_text(const Json *object, const char *key);       /* likewise, and has no NUL inside */
bool json_integer(const Json *value, int64_t least, int64_t most, int64_t *out); /* false if it is no such integer */

void json_write_string(FILE *out, const char *text, size_t bytes); /* what is not UTF-8 becomes U+FFFD */
void json_write_number(FILE *out, double value);                   /* null if not finite */

#endif
