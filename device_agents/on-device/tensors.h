/* Tensors: what goes into models and comes out, the test input, and the sums of outputs. */
#ifndef TENSORS_H
#define TENSORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { MAX_TENSORS = 64, MAX_RANK = 8, SHAPE_BYTES = 256 };

/* What a tensor may hold. */
typedef enum { FLOAT16, FLOAT32, FLOAT64, INT8, UINT8, INT16, INT32, INT64, BOOL } Element;

typedef struct {
  Element element;
  size_t rank, count; /* of dimensions, of values */
  int64_t sides[MAX_RANK];
} Tensor;

typedef struct {
  int64_t count;
  double sum, abs_sum;
} Outputs;

bool known_element(const char *name, Element *element);                    /* false after fail() */
bool listed_element(const char *const *names, int code, Element *element); /* likewise; NULL ends names */
bool count_values(Tensor *tensor, const char *name);                       /* likewise; an input's shape has to be fixed */
const char *element_name(Element element);
size_t element_bytes(Element element);
const char *shape_text(const Tensor *tensor, char text[SHAPE_BYTES]);

void fill_test_input(void *values, size_t count, Element element);
void add_outputs(Outputs *total, const void *values, size_t count, Element element);

#endif
