/* A small, strict JSON parser with bounds on depth and size, and what is needed to write JSON. */
#include "json.h"

#include "failure.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_DEPTH = 32, MAX_VALUES = 1 << 20 };

static struct {
  char *at, *end;
  Json *values; /* index 0 is the root, and no value's child: 0 can end chains */
  uint32_t count, room;
} parser;

static bool parse_value(uint32_t *index, int depth);

static void skip_blanks(void) {
  while (parser.at < parser.end && strchr(" \t\r\n", *parser.at) && *parser.at) parser.at++;
}

static bool take(char expected) {
  skip_blanks();
  if (parser.at >= parser.end || *parser.at != expected) return false;
  parser.at++;
  return true;
}

static bool take_word(const char *word) {
  size_t bytes = strlen(word);
  if ((size_t)(parser.end - parser.at) < bytes || memcmp(parser.at, word, bytes) != 0) return false;
  parser.at += bytes;
  return true;
}

static bool new_value(uint32_t *index) {
  if (parser.count == parser.room) {
    uint32_t room = parser.room ? parser.room * 2 : 64;
    Json *values = room <= MAX_VALUES ? realloc(parser.values, room * sizeof *values) : NULL;
    if (!values) return fail("more than %u values in a request", parser.room);
    parser.values = values;
    parser.room = room;
  }
  *index = parser.count++;
  memset(&parser.values[*index], 0, sizeof(Json));
  return true;
}

/* Returns how many bytes the UTF-8 character at `text` has; 0 if it is none, overlong or a surrogate. */
static size_t utf8_bytes(const unsigned char *text, size_t left) {
  static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
  size_t bytes = text[0] < 0x80 ? 1 : text[0] >> 5 == 6 ? 2 : text[0] >> 4 == 14 ? 3 : text[0] >> 3 == 30 ? 4 : 0;
  if (bytes == 0 || bytes > left) return 0;
  uint32_t code = bytes == 1 ? text[0] : text[0] & (0x7fu >> bytes);
  for (size_t i = 1; i < bytes; i++) {
    if (text[i] >> 6 != 2) return 0;
    code = code << 6 | (text[i] & 0x3f);
  }
  bool surrogate = code >= 0xd800 && code < 0xe000;
  return code < least[bytes] || code > 0x10ffff || surrogate ? 0 : bytes;
}

static bool parse_hex(uint32_t *code) {
  *code = 0;
  if (parser.end - parser.at < 4) return fail("an escape is cut off");
  for (int i = 0; i < 4; i++) {
    const char *digits = "0123456789abcdef", c = *parser.at++;
    const char *digit = c ? strchr(digits, c >= 'A' && c <= 'F' ? c - 'A' + 'a' : c) : NULL;
    if (!digit) return fail("an escape has other than hexadecimal digits");
    *code = *code << 4 | (uint32_t)(digit - digits);
  }
  return true;
}

/* Parses what follows \u and writes the character as UTF-8: never longer than its escape. */
static bool parse_unicode(char **out) {
  uint32_t code, low;
  if (!parse_hex(&code)) return false;
  if (code >= 0xd800 && code < 0xe000) {
    if (code >= 0xdc00 || !take_word("\\u")) return fail("half of a surrogate pair");
    if (!parse_hex(&low)) return false;
    if (low < 0xdc00 || low > 0xdfff) return fail("half of a surrogate pair");
    code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
  }
  char *to = *out;
  if (code < 0x80) {
    *to++ = (char)code;
  } else {
    int more = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
    *to++ = (char)(uint8_t)((0xff00u >> (more + 1) & 0xff) | code >> 6 * more);
    while (more--) *to++ = (char)(uint8_t)(0x80 | (code >> 6 * more & 0x3f));
  }
  *out = to;
  return true;
}

/* Parses a string after its opening quote and unescapes it in place. */
static bool parse_string(const char **text, size_t *bytes) {
  static const char escapes[] = "\"\\/bfnrt", meanings[] = "\"\\/\b\f\n\r\t";
  char *out = parser.at;
  *text = out;
  while (parser.at < parser.end && *parser.at != '"') {
    unsigned char c = (unsigned char)*parser.at;
    if (c < 0x20) return fail("a control character in a string");
    if (c != '\\') {
      size_t width = utf8_bytes((unsigned char *)parser.at, (size_t)(parser.end - parser.at));
      if (width == 0) return fail("a string is not UTF-8");
      memmove(out, parser.at, width);
      out += width;
      parser.at += width;
      continue;
    }
    if (++parser.at >= parser.end) break;
    c = (unsigned char)*parser.at++;
    const char *escape = c ? strchr(escapes, c) : NULL;
    if (escape) *out++ = meanings[escape - escapes];
    else if (c != 'u') return fail("an unknown escape in a string");
    else if (!parse_unicode(&out)) return false;
  }
  if (parser.at >= parser.end) return fail("a string does not end");
  parser.at++;
  *bytes = (size_t)(out - *text);
  *out = '\0'; /* on the closing quote or before it */
  return true;
}

static bool take_digits(void) {
  char *start = parser.at;
  while (parser.at < parser.end && *parser.at >= '0' && *parser.at <= '9') parser.at++;
  return parser.at > start;
}

static bool parse_number(double *number) {
  char *start = parser.at;
  take_word("-");
  if (!take_word("0") && !take_digits()) return fail("not JSON");
  if (take_word(".") && !take_digits()) return fail("a number ends with its point");
  if (take_word("e") || take_word("E")) {
    if (!take_word("+")) take_word("-");
    if (!take_digits()) return fail("a number without its exponent");
  }
  *number = strtod(start, NULL); /* the line ends with NUL, and so does the number before it */
  return isfinite(*number) || fail("a number is too large");
}

/* Parses the members of an object or the items of an array after its opening bracket. */
static bool parse_children(uint32_t parent, bool object, int depth) {
  char close = object ? '}' : ']';
  uint32_t last = 0, child;
  if (depth >= MAX_DEPTH) return fail("nested more than %d deep", MAX_DEPTH);
  if (take(close)) return true;
  do {
    const char *key = NULL;
    size_t key_bytes = 0;
    if (object) {
      if (!take('"')) return fail("a member without a name in quotes");
      if (!parse_string(&key, &key_bytes)) return false;
      if (!take(':')) return fail("a member without a colon");
    }
    if (!parse_value(&child, depth + 1)) return false;
    parser.values[child].key = key;
    parser.values[child].key_bytes = key_bytes;
    if (last) parser.values[last].next = child;
    else parser.values[parent].first = child;
    last = child;
  } while (take(','));
  return take(close) || fail("an object or array does not end");
}

static bool parse_value(uint32_t *index, int depth) {
  if (!new_value(index)) return false;
  Json value = {0};
  bool done;
  if (take('{')) value.type = JSON_OBJECT, done = parse_children(*index, true, depth);
  else if (take('[')) value.type = JSON_ARRAY, done = parse_children(*index, false, depth);
  else if (take('"')) value.type = JSON_STRING, done = parse_string(&value.text, &value.text_bytes);
  else if (take_word("null")) value.type = JSON_NULL, done = true;
  else if (take_word("true")) value.type = JSON_TRUE, done = true;
  else if (take_word("false")) value.type = JSON_FALSE, done = true;
  else value.type = JSON_NUMBER, done = parse_number(&value.number);
  value.first = parser.values[*index].first;
  parser.values[*index] = value;
  return done;
}

const Json *json_parse(char *line, size_t bytes) {
  uint32_t root;
  parser.at = line;
  parser.end = line + bytes;
  parser.count = 0;
  if (!parse_value(&root, 0)) return NULL;
  skip_blanks();
  if (parser.at != parser.end) {
    fail("more follows after the first value");
    return NULL;
  }
  return parser.values;
}

const Json *json_child(const Json *parent, const Json *previous) {
  uint32_t index = previous ? previous->next : parent->first;
  return index ? &parser.values[index] : NULL;
}

const Json *json_member(const Json *object, const char *key) {
  const Json *found = NULL;
  for (const Json *member = json_child(object, NULL); member; member = json_child(object, member)) {
    if (member->key && member->key_bytes == strlen(key) && memcmp(member->key, key, member->key_bytes) == 0) found = member;
  }
  return found;
}

const Json *json_name(const Json *object, const char *key) {
  const Json *value = json_member(object, key);
  if (value && value->type == JSON_STRING) return value;
  return fail("the request has no \"%s\" that is a text", key), NULL;
}

const Json *json_text(const Json *object, const char *key) {
  const Json *value = json_name(object, key);
  if (!value || strlen(value->text) == value->text_bytes) return value;
  return fail("the request has no \"%s\" that is a text", key), NULL;
}

bool json_integer(const Json *value, int64_t least, int64_t most, int64_t *out) {
  if (!value || value->type != JSON_NUMBER || value->number != floor(value->number)) return false;
  if (value->number < (double)least || value->number > (double)most) return false;
  *out = (int64_t)value->number;
  return true;
}

void json_write_string(FILE *out, const char *text, size_t bytes) {
  fputc('"', out);
  for (size_t i = 0, width; i < bytes; i += width) {
    unsigned char c = (unsigned char)text[i];
    width = utf8_bytes((const unsigned char *)text + i, bytes - i);
    if (c == '"' || c == '\\') fprintf(out, "\\%c", c);
    else if (width == 0) fputs("\\ufffd", out);
    else if (c < 0x20 || c == 0x7f) fprintf(out, "\\u%04x", c);
    else fwrite(text + i, 1, width, out);
    if (width == 0) width = 1;
  }
  fputc('"', out);
}

void json_write_number(FILE *out, double value) {
  if (isfinite(value)) fprintf(out, "%.17g", value);
  else fputs("null", out);
}
