/* Feed: what a model is fed with, the bytes of the request's file or the test input; checked by what was asked for. */
#ifndef FEED_H
#define FEED_H

#include "json.h"
#include "tensors.h"

typedef struct {
  const Json *asked, *next; /* the request's list of inputs, and which comes next; NULL: there is none, or no more */
  const Json *shape;        /* the request's shape of an only input of float32, for where it has no list */
  const char *path;         /* NULL: the test input */
  int file;
  char number[16]; /* of an input without a name */
  int count;       /* of those that feed_next gave */
} Feed;

bool open_feed(Feed *feed, const Json *request);  /* false after fail(), and so are the others */
bool feed_count(const Feed *feed, size_t inputs); /* that there are as many as were asked for, and not too many */
size_t feed_asked(const Feed *feed);              /* how many those are */
bool feed_next(Feed *feed, const char **name, Tensor *tensor); /* the next of them, for a model that does not know its own */
bool feed_check(Feed *feed, const char *name, Tensor *tensor); /* of each input in the model's order; counts its values */
bool feed_fill(Feed *feed, const char *name, const Tensor *tensor, void *values); /* in that order, too */
bool end_feed(const Feed *feed);                                                  /* after the last input */
void close_feed(Feed *feed);

#endif
