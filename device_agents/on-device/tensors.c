/* Numbers of every type that models take and give. */
#include "tensors.h"

#include "failure.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MAX_VALUES = 1 << 28 };

/* In the order of Element. */
static const struct {
  const char *name;
  size_t bytes;
} elements[] = {{"float16", 2}, {"float32", 4}, {"float64", 8}, {"int8", 1}, {"uint8", 1},
                {"int16", 2},   {"int32", 4},   {"int64", 8},   {"bool", 1}};

enum { ELEMENTS = sizeof elements / sizeof *elements };

bool known_element(const char *name, Element *element) {
  for (int i = 0; i < ELEMENTS; i++) {
    if (strcmp(name, elements[i].name) != 0) continue;
    *element = (Element)i;
    return true;
  }
  return fail("a tensor of the model is %.100s, none of float16, float32, float64, int8, uint8, int16, int32, int64, bool",
              name);
}

bool listed_element(const char *const *names, int code, Element *element) {
  char number[32];
  for (int i = 0; names[i]; i++) {
    if (i == code) return known_element(names[i], element);
  }
  snprintf(number, sizeof number, "of element type %d", code);
  return known_element(number, element);
}

const char *element_name(Element element) { return elements[element].name; }

size_t element_bytes(Element element) { return elements[element].bytes; }

const char *shape_text(const Tensor *tensor, char text[SHAPE_BYTES]) {
  size_t at = (size_t)snprintf(text, SHAPE_BYTES, "[");
  for (size_t i = 0; i < tensor->rank; i++) { /* at most 8 numbers of 22 characters */
    at += (size_t)snprintf(text + at, SHAPE_BYTES - at, "%s%lld", i ? ", " : "", (long long)tensor->sides[i]);
  }
  snprintf(text + at, SHAPE_BYTES - at, "]");
  return text;
}

bool count_values(Tensor *tensor, const char *name) {
  char text[SHAPE_BYTES];
  int64_t values = 1;
  for (size_t i = 0; i < tensor->rank; i++) {
    int64_t side = tensor->sides[i];
    if (side < 1) return fail("input %.200s has the shape %s, which is not fixed", name, shape_text(tensor, text));
    if (side > MAX_VALUES / values) {
      return fail("input %.200s has more than %d values: %s", name, MAX_VALUES, shape_text(tensor, text));
    }
    values *= side;
  }
  tensor->count = (size_t)values;
  return true;
}

/* ---- float16 ---- */

/* Rounds a number of the test input, which is no more than 0.5, to the nearest float16, and to even between two. */
static uint16_t half_of(float value) {
  uint32_t bits, sign;
  memcpy(&bits, &value, sizeof bits);
  sign = bits >> 16 & 0x8000;
  bits &= 0x7fffffff;
  if (bits < 113u << 23) { /* below 2^-14 there is a fixed step of 2^-24, as a float32 has from 0.5 to 1 */
    float shifted = fabsf(value) + 0.5f;
    memcpy(&bits, &shifted, sizeof bits);
    return (uint16_t)(sign | (bits - (126u << 23)));
  }
  bits += 0xfff + (bits >> 13 & 1);
  return (uint16_t)(sign | ((bits - (112u << 23)) >> 13));
}

static double number_of_half(uint16_t half) {
  int exponent = half >> 10 & 31, fraction = half & 1023;
  double sign = half & 0x8000 ? -1.0 : 1.0;
  if (exponent == 31) return fraction ? (double)NAN : sign * (double)INFINITY;
  return sign * ldexp(exponent ? 1024 + fraction : fraction, (exponent ? exponent : 1) - 25);
}

/* ---- values ---- */

/* The same pseudo-random input on every machine, in memory order: floats between -0.5 and 0.5, small integers over all
 * that they can be, and others 0 or 1, so that they are indices of whatever has two entries.                          */
void fill_test_input(void *values, size_t count, Element element) {
  uint32_t state = 12345;
  for (size_t k = 0; k < count; k++) {
    state = state * 1664525u + 1013904223u;
    float real = (float)(state >> 8) / (float)(1 << 24) - 0.5f;
    switch (element) {
      case FLOAT16: ((uint16_t *)values)[k] = half_of(real); break;
      case FLOAT32: ((float *)values)[k] = real; break;
      case FLOAT64: ((double *)values)[k] = (double)real; break;
      case INT8: ((int8_t *)values)[k] = (int8_t)((int)(state >> 24) - 128); break;
      case UINT8: ((uint8_t *)values)[k] = (uint8_t)(state >> 24); break;
      case INT16: ((int16_t *)values)[k] = (int16_t)((int32_t)(state >> 16) - 32768); break;
      case INT32: ((int32_t *)values)[k] = (int32_t)(state >> 31); break;
      case INT64: ((int64_t *)values)[k] = (int64_t)(state >> 31); break;
      case BOOL: ((uint8_t *)values)[k] = (uint8_t)(state >> 31); break;
    }
  }
}

static double number_at(const void *values, size_t i, Element element) {
  switch (element) {
    case FLOAT16: return number_of_half(((const uint16_t *)values)[i]);
    case FLOAT32: return (double)((const float *)values)[i];
    case FLOAT64: return ((const double *)values)[i];
    case INT8: return ((const int8_t *)values)[i];
    case UINT8: return ((const uint8_t *)values)[i];
    case INT16: return ((const int16_t *)values)[i];
    case INT32: return ((const int32_t *)values)[i];
    case INT64: return (double)((const int64_t *)values)[i];
    case BOOL: return ((const uint8_t *)values)[i] != 0;
  }
  return 0;
}

void add_outputs(Outputs *total, const void *values, size_t count, Element element) {
  total->count += (int64_t)count;
  for (size_t i = 0; i < count; i++) {
    double value = number_at(values, i, element);
    total->sum += value;
    total->abs_sum += fabs(value);
  }
}
