/* SHA-256 (FIPS 180-4): of what is written here, and of files, so that a table tells which agent and library timed it. */
#include "sha256.h"

#include <stdio.h>
#include <string.h>

static const uint32_t K[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98,
    0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786,
    0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8,
    0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13,
    0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819,
    0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a,
    0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7,
    0xc67178f2};

static uint32_t rotate(uint32_t x, int bits) { return x >> bits | x << (32 - bits); }

/* One round; the names turn from call to call, so that nothing has to be moved. */
#define ROUND(a, b, c, d, e, f, g, h, i)                                                                               \
  h += (rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)) + ((e & f) ^ (~e & g)) + K[i] + w[i];                            \
  d += h;                                                                                                              \
  h += (rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));

static void add_block(uint32_t state[8], const uint8_t *block) {
  uint32_t w[64];
  for (int i = 0; i < 16; i++) {
    const uint8_t *x = block + 4 * i;
    w[i] = (uint32_t)x[0] << 24 | (uint32_t)x[1] << 16 | (uint32_t)x[2] << 8 | x[3];
  }
  for (int i = 16; i < 64; i++) {
    uint32_t s0 = rotate(w[i - 15], 7) ^ rotate(w[i - 15], 18) ^ w[i - 15] >> 3;
    uint32_t s1 = rotate(w[i - 2], 17) ^ rotate(w[i - 2], 19) ^ w[i - 2] >> 10;
    w[i] = w[i - 16] + s0 + w[i - 7] + s1;
  }
  uint32_t a = state[0], b = state[1], c = state[2], d = state[3];
  uint32_t e = state[4], f = state[5], g = state[6], h = state[7];
  for (int i = 0; i < 64; i += 8) {
    ROUND(a, b, c, d, e, f, g, h, i)
    ROUND(h, a, b, c, d, e, f, g, i + 1)
    ROUND(g, h, a, b, c, d, e, f, i + 2)
    ROUND(f, g, h, a, b, c, d, e, i + 3)
    ROUND(e, f, g, h, a, b, c, d, i + 4)
    ROUND(d, e, f, g, h, a, b, c, i + 5)
    ROUND(c, d, e, f, g, h, a, b, i + 6)
    ROUND(b, c, d, e, f, g, h, a, i + 7)
  }
  uint32_t added[8] = {a, b, c, d, e, f, g, h};
  for (int i = 0; i < 8; i++) state[i] += added[i];
}

void sha256_begin(Sha256 *hash) {
  static const uint32_t first[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                    0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  memcpy(hash->state, first, sizeof first);
  hash->bytes = 0;
}

void sha256_add(Sha256 *hash, const void *data, size_t bytes) {
  const uint8_t *at = data;
  size_t held = hash->bytes % 64;
  hash->bytes += bytes;
  if (held && held + bytes >= 64) {
    memcpy(hash->block + held, at, 64 - held);
    add_block(hash->state, hash->block);
    at += 64 - held;
    bytes -= 64 - held;
    held = 0;
  }
  for (; bytes >= 64; at += 64, bytes -= 64) add_block(hash->state, at);
  memcpy(hash->block + held, at, bytes);
}

void sha256_end(Sha256 *hash, char hex[65]) {
  static const uint8_t padding[64] = {0x80};
  uint64_t bits = hash->bytes * 8;
  uint8_t length[8];
  for (int i = 0; i < 8; i++) length[i] = (uint8_t)(bits >> (56 - 8 * i));
  sha256_add(hash, padding, 1 + (119 - hash->bytes % 64) % 64);
  sha256_add(hash, length, sizeof length);
  for (int i = 0; i < 8; i++) snprintf(hex + 8 * i, 9, "%08x", (unsigned)hash->state[i]);
}

bool file_sha256(const char *path, char hex[65]) {
  uint8_t data[1 << 14];
  Sha256 hash;
  FILE *file = fopen(path, "rb");
  if (!file) return false;
  sha256_begin(&hash);
  for (size_t read; (read = fread(data, 1, sizeof data, file));) sha256_add(&hash, data, read);
  bool complete = !ferror(file);
  fclose(file);
  sha256_end(&hash, hex);
  return complete;
}
