/* Checks a model's inputs by those of a request, and fills them one after the other. */
#define _GNU_SOURCE
#include "feed.h"

#include "failure.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { NO_FILE = -1 };

/* ---- what was asked for ---- */

static bool read_shape(const Json *shape, Tensor *tensor) {
  for (const Json *side = json_child(shape, NULL); side; side = json_child(shape, side)) {
    if (tensor->rank == MAX_RANK || !json_integer(side, 1, INT32_MAX, &tensor->sides[tensor->rank++])) {
      return fail("the shape of an input that is asked for has at most %d sides, each a number above 0", MAX_RANK);
    }
  }
  return true;
}

static bool read_asked(const Json *asked, Tensor *tensor) {
  const Json *shape = json_member(asked, "shape"), *element = json_member(asked, "element");
  if (asked->type != JSON_OBJECT || !shape || shape->type != JSON_ARRAY || !element || element->type != JSON_STRING) {
    return fail("an input that is asked for has a shape that is an array and an element that is a text");
  }
  return read_shape(shape, tensor) && known_element(element->text, &tensor->element);
}

/* Holds an input of the file against what is asked for, which settles sides that the file leaves open. */
static bool is_as_asked(const Json *asked, const char *name, Tensor *tensor) {
  char here[SHAPE_BYTES], wanted[SHAPE_BYTES];
  Tensor other = {0};
  const Json *other_name = json_member(asked, "name");
  if (!read_asked(asked, &other)) return false;
  if (other_name && other_name->type == JSON_STRING && strcmp(other_name->text, name) != 0) {
    return fail("input %.200s has the name %.200s in the file, %.200s was asked for", name, name, other_name->text);
  }
  for (size_t i = 0; other.rank == tensor->rank && i < other.rank; i++) {
    if (tensor->sides[i] < 0) tensor->sides[i] = other.sides[i];
  }
  if (other.rank != tensor->rank || memcmp(other.sides, tensor->sides, other.rank * sizeof *other.sides) != 0) {
    return fail("input %.200s has the shape %s in the file, %s was asked for", name, shape_text(tensor, here),
                shape_text(&other, wanted));
  }
  return other.element == tensor->element || fail("input %.200s has the element %s in the file, %s was asked for", name,
                                                  element_name(tensor->element), element_name(other.element));
}

size_t feed_asked(const Feed *feed) {
  size_t asked = 0;
  if (!feed->asked) return 1;
  for (const Json *one = json_child(feed->asked, NULL); one; one = json_child(feed->asked, one)) asked++;
  return asked;
}

bool feed_next(Feed *feed, const char **name, Tensor *tensor) {
  const Json *asked = feed->next, *given = asked ? json_member(asked, "name") : NULL;
  snprintf(feed->number, sizeof feed->number, "%d", feed->count++);
  *name = given && given->type == JSON_STRING ? given->text : feed->number;
  tensor->element = FLOAT32;
  if (!asked && !feed->shape) return fail("a model of this format does not know its inputs, and none are asked for");
  if (!(asked ? read_asked(asked, tensor) : read_shape(feed->shape, tensor))) return false;
  if (asked) feed->next = json_child(feed->asked, asked);
  return count_values(tensor, *name);
}

bool feed_count(const Feed *feed, size_t inputs) {
  if (inputs > MAX_TENSORS) return fail("the model has more than %d inputs or outputs", MAX_TENSORS);
  if (!feed->asked || feed_asked(feed) == inputs) return true;
  return fail("the model has %zu inputs, %zu were asked for", inputs, feed_asked(feed));
}

/* ---- the file of inputs ---- */

/* Reads so many bytes, or as many as are left. */
static bool read_some(const Feed *feed, void *out, size_t bytes, size_t *got) {
  *got = 0;
  while (*got < bytes) {
    ssize_t some = read(feed->file, (char *)out + *got, bytes - *got);
    if (some < 0 && errno == EINTR) continue;
    if (some < 0) return fail("%.500s: %s", feed->path, strerror(errno));
    if (some == 0) break;
    *got += (size_t)some;
  }
  return true;
}

static bool fill_from_file(const Feed *feed, const char *name, const Tensor *tensor, void *values) {
  size_t got, bytes = tensor->count * element_bytes(tensor->element);
  if (!read_some(feed, values, bytes, &got)) return false;
  if (got < bytes) return fail("the file of inputs ends within input %.200s", name);
  for (size_t i = 0; tensor->element == BOOL && i < bytes; i++) {
    if (((const uint8_t *)values)[i] < 2) continue;
    return fail("the file of inputs has bytes other than 0 and 1 for input %.200s, which is bool", name);
  }
  return true;
}

/* ---- a feed ---- */

bool open_feed(Feed *feed, const Json *request) {
  struct stat status;
  const Json *asked = json_member(request, "inputs"), *path = json_member(request, "inputs_path");
  const Json *shape = json_member(request, "input_shape");
  *feed = (Feed){.file = NO_FILE, .shape = shape && shape->type == JSON_ARRAY ? shape : NULL};
  if (asked && asked->type != JSON_NULL) {
    if (asked->type != JSON_ARRAY) return fail("the request has \"inputs\" that are no array");
    feed->asked = asked;
    feed->next = json_child(asked, NULL);
  }
  if (!path || path->type == JSON_NULL) return true;
  if (!(path = json_text(request, "inputs_path"))) return false;
  feed->path = path->text;
  feed->file = open(feed->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* whatever it is, opening it does not wait */
  if (feed->file < 0) return fail("%.500s: %s", feed->path, strerror(errno));
  if (fstat(feed->file, &status) == 0 && S_ISREG(status.st_mode)) return true;
  fail("%.500s is no file", feed->path);
  close_feed(feed);
  return false;
}

bool feed_check(Feed *feed, const char *name, Tensor *tensor) {
  if (feed->next && !is_as_asked(feed->next, name, tensor)) return false;
  if (feed->next) feed->next = json_child(feed->asked, feed->next);
  return count_values(tensor, name);
}

bool feed_fill(Feed *feed, const char *name, const Tensor *tensor, void *values) {
  if (feed->file != NO_FILE) return fill_from_file(feed, name, tensor, values);
  fill_test_input(values, tensor->count, tensor->element);
  return true;
}

bool end_feed(const Feed *feed) {
  char more;
  size_t got = 0;
  if (feed->file != NO_FILE && !read_some(feed, &more, 1, &got)) return false;
  return got == 0 || fail("the file of inputs has more bytes than the model's inputs");
}

void close_feed(Feed *feed) {
  if (feed->file != NO_FILE) close(feed->file);
  feed->file = NO_FILE;
}
