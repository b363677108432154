// SPDX-License-Identifier: Apache-2.0
// SHA-256 of sixteen messages at a time, one a lane of AVX-512: some three times as fast as the SHA instructions.

#define SHA_WIDE 16

// One block of each message into their states. w: its words, of all messages. tail: whether it is the last block of a
// tag and whole blocks, of whose words all but the first and the last are zero.
static inline __attribute__((always_inline)) void NAME(sha_block)(__m512i state[8], __m512i w[16], const int tail) {
  __m512i a = state[0], b = state[1], c = state[2], d = state[3];
  __m512i e = state[4], f = state[5], g = state[6], h = state[7];
#define XOR3(x, y, z) _mm512_ternarylogic_epi32(x, y, z, 0x96)
// Whether word t is known to be zero, which spares what is done with it.
#define ZERO(t) (tail && (t) >= 1 && (t) <= 14)
#pragma GCC unroll 64
  for (int i = 0; i < 64; i++) {
    if (i >= 16) {
      const __m512i x = w[(i + 1) & 15], y = w[(i + 14) & 15];
      __m512i next = ZERO(i - 16) ? _mm512_setzero_si512() : w[i & 15];
      if (!ZERO(i - 15))
        next = _mm512_add_epi32(next, XOR3(_mm512_ror_epi32(x, 7), _mm512_ror_epi32(x, 18), _mm512_srli_epi32(x, 3)));
      if (!ZERO(i - 7)) next = _mm512_add_epi32(next, w[(i + 9) & 15]);
      if (!ZERO(i - 2))
        next = _mm512_add_epi32(next, XOR3(_mm512_ror_epi32(y, 17), _mm512_ror_epi32(y, 19), _mm512_srli_epi32(y, 10)));
      w[i & 15] = next;
    }
    const __m512i turn_e = XOR3(_mm512_ror_epi32(e, 6), _mm512_ror_epi32(e, 11), _mm512_ror_epi32(e, 25));
    const __m512i turn_a = XOR3(_mm512_ror_epi32(a, 2), _mm512_ror_epi32(a, 13), _mm512_ror_epi32(a, 22));
    const __m512i word = ZERO(i) ? h : _mm512_add_epi32(h, w[i & 15]);
    const __m512i known = _mm512_add_epi32(word, _mm512_set1_epi32((int)sha_k[i]));
    // e chooses between f and g; of a, b and c what most say.
    const __m512i chosen = _mm512_ternarylogic_epi32(e, f, g, 0xca);
    const __m512i most = _mm512_ternarylogic_epi32(a, b, c, 0xe8);
    const __m512i one = _mm512_add_epi32(_mm512_add_epi32(turn_e, chosen), known);
    h = g;
    g = f;
    f = e;
    e = _mm512_add_epi32(d, one);
    d = c;
    c = b;
    b = a;
    a = _mm512_add_epi32(one, _mm512_add_epi32(turn_a, most));
  }
#undef ZERO
#undef XOR3
  const __m512i last[8] = {a, b, c, d, e, f, g, h};
  for (int i = 0; i < 8; i++) state[i] = _mm512_add_epi32(state[i], last[i]);
}

// The hashes of the tag's byte and each of sixteen pieces of some whole blocks; hashes[j] gets that of piece j.
static void NAME(sha_wide)(const uint8_t *const pieces[SHA_WIDE], int piece, int tag, uint8_t *const hashes[SHA_WIDE]) {
  const __m512i order = _mm512_broadcast_i32x4(_mm_set_epi64x(0x0c0d0e0f08090a0bll, 0x0405060700010203ll));
  const __m512i first = _mm512_zextsi128_si512(_mm_cvtsi32_si128(tag));
  __m512i state[8], w[16];
  __m512 turned[16];
  for (int i = 0; i < 8; i++) state[i] = _mm512_set1_epi32((int)sha_begin[i]);
  for (int begin = 0; begin < piece; begin += SHA_BLOCK) {
    for (int j = 0; j < 16; j++) {
      // The tag moves all by a byte; before the piece nothing is read.
      const uint8_t *from = pieces[j] + begin - 1;
      const __m512i one = begin ? _mm512_loadu_si512(from) : _mm512_mask_loadu_epi8(first, ~1ull, from);
      turned[j] = _mm512_castsi512_ps(_mm512_shuffle_epi8(one, order));
    }
    NAME(square)(turned);
    for (int j = 0; j < 16; j++) w[j] = _mm512_castps_si512(turned[j]);
    NAME(sha_block)(state, w, 0);
  }
  uint32_t bytes[SHA_WIDE];
  for (int j = 0; j < SHA_WIDE; j++) bytes[j] = (uint32_t)pieces[j][piece - 1] << 24 | 0x800000;
  w[0] = _mm512_loadu_si512(bytes);
  w[15] = _mm512_set1_epi32(8 * (1 + piece));
  NAME(sha_block)(state, w, 1);
  for (int i = 0; i < 8; i++) turned[i] = _mm512_castsi512_ps(_mm512_shuffle_epi8(state[i], order));
  for (int i = 8; i < 16; i++) turned[i] = _mm512_setzero_ps();
  NAME(square)(turned);
  for (int j = 0; j < SHA_WIDE; j++)
    _mm256_storeu_si256((__m256i *)hashes[j], _mm512_castsi512_si256(_mm512_castps_si512(turned[j])));
}

// Pieces seen lately, by a few of their bytes, and pieces that wait for the hash of an equal one.
#define SHA_SEEN_BITS 9
#define SHA_LATER 256

// All whole pieces, if they are not few and of whole blocks, as in exact_hash_pieces. Returns how many that were. Equal
// pieces, of which broadcast tensors are full, are hashed once as long as they are remembered.
static exact_i64 NAME(sha_sixteens)(const uint8_t *content, exact_i64 size, int piece, int tag, uint8_t *hashes) {
  const uint8_t *pieces[SHA_WIDE];
  uint8_t *to[SHA_WIDE], scrap[32];
  int32_t seen[1 << SHA_SEEN_BITS];
  exact_i64 first = 0, later[SHA_LATER][2];
  int wait = 0, put_off = 0;
  exact_i64 count = size / piece;
  if (count < SHA_WIDE / 2 || count > INT32_MAX || piece % SHA_BLOCK) return 0;
  memset(seen, 0xff, sizeof seen);
  for (exact_i64 at = 0; at <= count; at++) {
    if (at < count) {
      const uint8_t *here = content + at * piece;
      uint64_t parts[4];
      for (int i = 0; i < 4; i++) memcpy(parts + i, here + (piece - 8) / 3 * i, 8);
      uint64_t mixed = (parts[0] * 0x9e3779b97f4a7c15ull ^ parts[1]) * 0xc2b2ae3d27d4eb4full;
      mixed = (mixed ^ parts[2] * 0x165667b19e3779f9ull ^ parts[3]) * 0x9e3779b97f4a7c15ull;
      int32_t *slot = seen + (mixed >> (64 - SHA_SEEN_BITS));
      const exact_i64 other = *slot;
      // A level of a tree is hashed in place: what hashes have been written over is not there any more.
      const int there = other >= 0 && (content != hashes || other * piece >= 32 * at);
      if (there && memcmp(here, content + other * piece, (size_t)piece) == 0) {
        // In place nothing is written before all that waits is read.
        if (wait == 0 || (other < first && content != hashes)) {
          memcpy(hashes + 32 * at, hashes + 32 * other, 32);
        } else {
          later[put_off][0] = at;
          later[put_off++][1] = other;
        }
      } else {
        *slot = (int32_t)at;
        if (wait == 0) first = at;
        pieces[wait] = here;
        to[wait++] = hashes + 32 * at;
      }
    }
    if (wait > 0 && (wait == SHA_WIDE || put_off == SHA_LATER || at == count)) {
      for (; wait < SHA_WIDE; wait++) {
        pieces[wait] = pieces[0];
        to[wait] = scrap;
      }
      NAME(sha_wide)(pieces, piece, tag, to);
      for (int j = 0; j < put_off; j++) memcpy(hashes + 32 * later[j][0], hashes + 32 * later[j][1], 32);
      wait = put_off = 0;
    }
  }
  return count;
}
