// SPDX-License-Identifier: Apache-2.0
// SHA-256 of many short pieces, as the trees of docs/exact.md, section 4, need it: one call for a whole level.
//
// With the SHA instructions of x86 two pieces are hashed at a time, since one waits for itself most of the time; with
// AVX-512 sixteen, one in each part of a register, which is twice as fast again.

#include <stdint.h>
#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#endif

#define SHA_BLOCK 64
// A tag byte, 256 bytes, the mark and the length: five blocks.
#define SHA_MOST_PIECE 256
#define SHA_MOST_BYTES (5 * SHA_BLOCK)

static const uint32_t sha_begin[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                      0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
static const uint32_t sha_k[64] __attribute__((aligned(16))) = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static uint32_t sha_turn(uint32_t x, int by) { return x >> by | x << (32 - by); }

static void sha_portable(uint32_t state[8], const uint8_t *data, int blocks) {
  for (; blocks > 0; blocks--, data += SHA_BLOCK) {
    uint32_t w[64], s[8];
    for (int i = 0; i < 16; i++)
      w[i] = (uint32_t)data[4 * i] << 24 | (uint32_t)data[4 * i + 1] << 16 | (uint32_t)data[4 * i + 2] << 8 |
             data[4 * i + 3];
    for (int i = 16; i < 64; i++) {
      uint32_t a = w[i - 15], b = w[i - 2];
      w[i] = w[i - 16] + (sha_turn(a, 7) ^ sha_turn(a, 18) ^ a >> 3);
      w[i] += w[i - 7] + (sha_turn(b, 17) ^ sha_turn(b, 19) ^ b >> 10);
    }
    memcpy(s, state, sizeof s);
    for (int i = 0; i < 64; i++) {
      uint32_t e = s[4], a = s[0];
      uint32_t one = s[7] + (sha_turn(e, 6) ^ sha_turn(e, 11) ^ sha_turn(e, 25)) + ((e & s[5]) ^ (~e & s[6]));
      one += sha_k[i] + w[i];
      uint32_t two = (sha_turn(a, 2) ^ sha_turn(a, 13) ^ sha_turn(a, 22)) + ((a & s[1]) ^ (a & s[2]) ^ (s[1] & s[2]));
      memmove(s + 1, s, 7 * sizeof *s);
      s[4] += one;
      s[0] = one + two;
    }
    for (int i = 0; i < 8; i++) state[i] += s[i];
  }
}

#if defined(__x86_64__)
static int sha_look(void) {
  unsigned a, b, c, d;
  if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & 1u << 9) || !(c & 1u << 19)) return 0;
  return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & 1u << 29);
}

// Looked up once: a hypervisor takes 30 microseconds to answer.
static int sha_instructions(void) {
  static int known = -1;
  int found = __atomic_load_n(&known, __ATOMIC_RELAXED);
  if (found < 0) __atomic_store_n(&known, found = sha_look(), __ATOMIC_RELAXED);
  return found;
}

__attribute__((target("sha,sse4.1,ssse3")))
static void sha_pair(uint32_t state[2][8], const uint8_t *const data[2], int blocks) {
  const __m128i order = _mm_set_epi64x(0x0c0d0e0f08090a0bll, 0x0405060700010203ll);
  __m128i s0[2], s1[2];
  for (int j = 0; j < 2; j++) {
    __m128i low = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)state[j]), 0xb1);
    __m128i high = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)(state[j] + 4)), 0x1b);
    s0[j] = _mm_alignr_epi8(low, high, 8);
    s1[j] = _mm_blend_epi16(high, low, 0xf0);
  }
  for (int block = 0; block < blocks; block++) {
    __m128i m[2][4], kept0[2] = {s0[0], s0[1]}, kept1[2] = {s1[0], s1[1]};
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++) {
      const __m128i k = _mm_load_si128((const __m128i *)(sha_k + 4 * i));
#pragma GCC unroll 2
      for (int j = 0; j < 2; j++) {
        __m128i w;
        if (i < 4) {
          w = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(data[j] + SHA_BLOCK * block + 16 * i)), order);
        } else {
          w = _mm_sha256msg1_epu32(m[j][i & 3], m[j][(i + 1) & 3]);
          w = _mm_add_epi32(w, _mm_alignr_epi8(m[j][(i + 3) & 3], m[j][(i + 2) & 3], 4));
          w = _mm_sha256msg2_epu32(w, m[j][(i + 3) & 3]);
        }
        m[j][i & 3] = w;
        w = _mm_add_epi32(w, k);
        s1[j] = _mm_sha256rnds2_epu32(s1[j], s0[j], w);
        s0[j] = _mm_sha256rnds2_epu32(s0[j], s1[j], _mm_shuffle_epi32(w, 0x0e));
      }
    }
    for (int j = 0; j < 2; j++) {
      s0[j] = _mm_add_epi32(s0[j], kept0[j]);
      s1[j] = _mm_add_epi32(s1[j], kept1[j]);
    }
  }
  for (int j = 0; j < 2; j++) {
    __m128i low = _mm_shuffle_epi32(s0[j], 0x1b), high = _mm_shuffle_epi32(s1[j], 0xb1);
    _mm_storeu_si128((__m128i *)state[j], _mm_blend_epi16(low, high, 0xf0));
    _mm_storeu_si128((__m128i *)(state[j] + 4), _mm_alignr_epi8(high, low, 8));
  }
}
#endif

// One message: the tag and the piece, which may be shorter than `piece` and is filled up with zeros; padded.
static int sha_message(uint8_t message[SHA_MOST_BYTES], int tag, const uint8_t *content, exact_i64 held, int piece) {
  int bytes = (piece + 10 + SHA_BLOCK - 1) / SHA_BLOCK * SHA_BLOCK;
  message[0] = (uint8_t)tag;
  if (held > 0) memcpy(message + 1, content, (size_t)held);
  memset(message + 1 + held, 0, (size_t)(bytes - 1 - held));
  message[1 + piece] = 0x80;
  uint32_t bits = 8u * (1u + (uint32_t)piece);
  message[bytes - 2] = (uint8_t)(bits >> 8);
  message[bytes - 1] = (uint8_t)bits;
  return bytes / SHA_BLOCK;
}

// As many pieces as can be hashed sixteen at a time; how many that were (exact.c, sha256_wide.h).
static exact_i64 sha_sixteens(const uint8_t *content, exact_i64 size, int piece, int tag, uint8_t *hashes);

static void sha_write(uint8_t *to, const uint32_t state[8]) {
  for (int i = 0; i < 8; i++, to += 4) {
    to[0] = (uint8_t)(state[i] >> 24);
    to[1] = (uint8_t)(state[i] >> 16);
    to[2] = (uint8_t)(state[i] >> 8);
    to[3] = (uint8_t)state[i];
  }
}

// The hashes of all pieces of a buffer, each with the tag before it; the last piece is filled up with zeros. kind: 0
// the best that this processor has, 1 the portable one, 2 without AVX-512. Returns 0, or 1 for a piece that is too long.
int exact_hash_pieces(const uint8_t *content, exact_i64 size, int piece, int tag, uint8_t *hashes, int kind) {
  if (piece < 1 || piece > SHA_MOST_PIECE) return 1;
  exact_i64 count = size / piece + (size % piece != 0);
#if defined(__x86_64__)
  const int quick = kind != 1 && sha_instructions();
#else
  (void)kind;
#endif
  exact_i64 at = kind == 0 ? sha_sixteens(content, size, piece, tag, hashes) : 0;
  for (; at < count; at += 2) {
    uint8_t message[2][SHA_MOST_BYTES];
    uint32_t state[2][8];
    int pieces = at + 1 < count ? 2 : 1, blocks = 0;
    for (int j = 0; j < 2; j++) {
      // An odd one is hashed twice.
      exact_i64 begin = (at + (j < pieces ? j : 0)) * piece;
      exact_i64 held = size - begin < piece ? size - begin : piece;
      blocks = sha_message(message[j], tag, content + begin, held, piece);
      memcpy(state[j], sha_begin, sizeof sha_begin);
    }
#if defined(__x86_64__)
    if (quick) {
      const uint8_t *const both[2] = {message[0], message[1]};
      sha_pair(state, both, blocks);
    } else
#endif
      for (int j = 0; j < pieces; j++) sha_portable(state[j], message[j], blocks);
    for (int j = 0; j < pieces; j++) sha_write(hashes + 32 * (at + j), state[j]);
  }
  return 0;
}

// From `count` nodes at one height to the one at another above them all, in place; missing ones are those of
// docs/exact.md. hashes: room for one more. tag: of nodes.
static void sha_climb(uint8_t *hashes, exact_i64 count, int tag, int height, int top, int kind) {
  uint8_t zeros[64] = {0};
  const int full = count == (exact_i64)1 << (top - height);
  for (int level = full ? height : 0; level < top; level++) {
    if (level >= height) {
      if (count % 2) memcpy(hashes + 32 * count++, zeros, 32);
      // In place: a node is written below what the ones after it are read from.
      exact_hash_pieces(hashes, 32 * count, 64, tag, hashes, kind);
      count /= 2;
    }
    if (full) continue;
    memcpy(zeros + 32, zeros, 32);
    exact_hash_pieces(zeros, 64, 64, tag, zeros, kind);
  }
}

// The node `height` levels above the leaves in a buffer, which are at most 2^height and at least one. The last leaf is
// filled up with zeros. hashes: room for one more than there are leaves; its first 32 bytes get the node. Returns as
// exact_hash_pieces.
int exact_hash_tree(const uint8_t *content, exact_i64 size, int piece, int tag, int height, uint8_t *hashes, int kind) {
  if (exact_hash_pieces(content, size, piece, tag, hashes, kind)) return 1;
  sha_climb(hashes, size / piece + (size % piece != 0), tag + 1, 0, height, kind);
  return 0;
}
