/* Writes a file from pieces of files that are here and from the bytes that follow a request, checked by its hash. */
#define _GNU_SOURCE
#include "files.h"

#include "failure.h"
#include "input.h"
#include "sha256.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_PIECES = 10000, BLOCK_BYTES = 1 << 16 };
#define MAX_FILE_BYTES (1LL << 40)

typedef struct {
  int file;
  Sha256 hash;
  int64_t following; /* bytes after the request that are not read yet */
} Output;

static char block[BLOCK_BYTES];

static size_t block_bytes(int64_t left) { return left < BLOCK_BYTES ? (size_t)left : BLOCK_BYTES; }

static bool append(Output *output, size_t bytes) {
  sha256_add(&output->hash, block, bytes);
  for (size_t done = 0; done < bytes;) {
    ssize_t written = write(output->file, block + done, bytes - done);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return fail("%s", strerror(errno));
    done += (size_t)written;
  }
  return true;
}

static bool append_following(Output *output, int64_t bytes) {
  if (bytes > output->following) return fail("the pieces take more bytes than follow the request");
  while (bytes > 0) {
    size_t some = block_bytes(bytes);
    if (!read_following(block, some)) return false;
    output->following -= (int64_t)some;
    bytes -= (int64_t)some;
    if (!append(output, some)) return false;
  }
  return true;
}

static bool append_from(Output *output, const char *path, int64_t offset, int64_t bytes) {
  struct stat source;
  int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* whatever it is, opening it does not wait */
  if (file < 0) return fail("%.500s: %s", path, strerror(errno));
  bool good = fstat(file, &source) == 0 && S_ISREG(source.st_mode);
  if (!good) fail("%.500s is no file", path);
  while (good && bytes > 0) {
    ssize_t got = pread(file, block, block_bytes(bytes), (off_t)offset);
    if (got < 0 && errno == EINTR) continue;
    good = got > 0 ? append(output, (size_t)got) : fail("%.500s: %s", path, got ? strerror(errno) : "a piece is beyond its end");
    offset += got;
    bytes -= got;
  }
  close(file);
  return good;
}

static bool append_piece(Output *output, const Json *piece) {
  int64_t offset, bytes;
  if (json_integer(piece, 0, MAX_FILE_BYTES, &bytes)) return append_following(output, bytes);
  const Json *path = piece->type == JSON_ARRAY ? json_child(piece, NULL) : NULL;
  const Json *from = path ? json_child(piece, path) : NULL, *length = from ? json_child(piece, from) : NULL;
  if (!length || json_child(piece, length) || path->type != JSON_STRING || strlen(path->text) != path->text_bytes ||
      !json_integer(from, 0, MAX_FILE_BYTES, &offset) || !json_integer(length, 0, MAX_FILE_BYTES, &bytes)) {
    return fail("a piece is a number of bytes, or a path, an offset and a number of bytes");
  }
  return append_from(output, path->text, offset, bytes);
}

static bool append_all(Output *output, const Json *pieces) {
  size_t count = 0;
  for (const Json *piece = json_child(pieces, NULL); piece; piece = json_child(pieces, piece)) {
    if (++count > MAX_PIECES) return fail("a file has at most %d pieces", MAX_PIECES);
    if (!append_piece(output, piece)) return false;
  }
  return output->following == 0 || fail("more bytes follow the request than the pieces take");
}

static bool write_pieces(const Json *request, Output *output) {
  char part[PATH_MAX], hex[65];
  const Json *path = json_text(request, "path"), *hash = json_text(request, "sha256");
  const Json *pieces = json_member(request, "pieces");
  if (!path || !hash) return false;
  if (!pieces || pieces->type != JSON_ARRAY) return fail("the request has no \"pieces\" that are an array");
  if (snprintf(part, sizeof part, "%s.part", path->text) >= (int)sizeof part) return fail("the path is too long");
  output->file = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
  if (output->file < 0) return fail("%.500s: %s", part, strerror(errno));
  sha256_begin(&output->hash);
  bool good = append_all(output, pieces);
  sha256_end(&output->hash, hex);
  if (close(output->file) != 0 && good) good = fail("%s", strerror(errno));
  if (good && strcmp(hex, hash->text) != 0) good = fail("its SHA-256 is %s: a piece is damaged", hex);
  if (good && rename(part, path->text) != 0) good = fail("%.500s: %s", path->text, strerror(errno));
  if (!good) unlink(part);
  return good;
}

bool write_file(const Json *request) {
  Output output;
  if (!json_integer(json_member(request, "bytes"), 0, MAX_FILE_BYTES, &output.following)) {
    return fail("the request has no \"bytes\" that are a number");
  }
  bool written = write_pieces(request, &output);
  while (output.following > 0) { /* so that the next line is one */
    size_t some = block_bytes(output.following);
    if (!read_following(block, some)) return false;
    output.following -= (int64_t)some;
  }
  return written || fail_because("cannot write the file");
}
