// SPDX-License-Identifier: Apache-2.0
// The scalar meaning of every operation of exact programs (docs/exact.md, section 1), for C99, C++ and CUDA C++.
//
// Whoever includes it compiles with -ffp-contract=off (NVRTC: --fmad=false) and without -ffast-math and its kind.
// On the host the caller sees to it that rounding is to nearest and that nothing flushes to zero.
// Values are floats, whose bits are only copied where no arithmetic is meant. Names that end in _raw leave a NaN as the
// processor makes it; where several stand in a row, canonising the last one is enough.
#ifndef GPUBOND_EXACT_CORE_H
#define GPUBOND_EXACT_CORE_H

#ifndef EXACT_FN
#if defined(__CUDACC__)
#define EXACT_FN static __device__ __forceinline__
#elif defined(__GNUC__)
#define EXACT_FN static inline __attribute__((always_inline, unused))
#else
#define EXACT_FN static inline
#endif
#endif

typedef unsigned int exact_u32;
typedef int exact_i32;
typedef unsigned long long exact_u64;
typedef long long exact_i64;

#define EXACT_NAN_BITS 0x7fc00000u
#define EXACT_BLOCK 512

// ---- Bits ----

EXACT_FN exact_u32 exact_bits(float a) {
#if defined(__CUDA_ARCH__)
  return __float_as_uint(a);
#else
  exact_u32 u;
  __builtin_memcpy(&u, &a, sizeof u);
  return u;
#endif
}

EXACT_FN float exact_float(exact_u32 u) {
#if defined(__CUDA_ARCH__)
  return __uint_as_float(u);
#else
  float a;
  __builtin_memcpy(&a, &u, sizeof a);
  return a;
#endif
}

EXACT_FN int exact_is_nan(float a) { return a != a; }

EXACT_FN float exact_canonical(float a) { return a != a ? exact_float(EXACT_NAN_BITS) : a; }

// ---- The processor's arithmetic, rounded once ----

EXACT_FN float exact_fma_raw(float a, float b, float c) {
#if defined(__CUDA_ARCH__)
  return __fmaf_rn(a, b, c);
#else
  return __builtin_fmaf(a, b, c);
#endif
}

EXACT_FN float exact_add_raw(float a, float b) {
#if defined(__CUDA_ARCH__)
  return __fadd_rn(a, b);
#else
  return a + b;
#endif
}

EXACT_FN float exact_sub_raw(float a, float b) {
#if defined(__CUDA_ARCH__)
  return __fsub_rn(a, b);
#else
  return a - b;
#endif
}

EXACT_FN float exact_mul_raw(float a, float b) {
#if defined(__CUDA_ARCH__)
  return __fmul_rn(a, b);
#else
  return a * b;
#endif
}

EXACT_FN float exact_div_raw(float a, float b) {
#if defined(__CUDA_ARCH__)
  return __fdiv_rn(a, b);
#else
  return a / b;
#endif
}

EXACT_FN float exact_sqrt_raw(float a) {
#if defined(__CUDA_ARCH__)
  return __fsqrt_rn(a);
#else
  return __builtin_sqrtf(a);
#endif
}

// ---- Scalar operations ----

EXACT_FN float exact_fma(float a, float b, float c) { return exact_canonical(exact_fma_raw(a, b, c)); }
EXACT_FN float exact_add(float a, float b) { return exact_canonical(exact_add_raw(a, b)); }
EXACT_FN float exact_sub(float a, float b) { return exact_canonical(exact_sub_raw(a, b)); }
EXACT_FN float exact_mul(float a, float b) { return exact_canonical(exact_mul_raw(a, b)); }
EXACT_FN float exact_div(float a, float b) { return exact_canonical(exact_div_raw(a, b)); }
EXACT_FN float exact_sqrt(float a) { return exact_canonical(exact_sqrt_raw(a)); }

EXACT_FN float exact_neg(float a) { return exact_canonical(exact_float(exact_bits(a) ^ 0x80000000u)); }

EXACT_FN float exact_gt(float a, float b) { return a > b ? 1.0f : 0.0f; }

EXACT_FN float exact_max(float a, float b) {
  float most = a > b ? a : b;
  return a != a || b != b ? exact_float(EXACT_NAN_BITS) : most;
}

EXACT_FN float exact_select(float c, float a, float b) { return (exact_bits(c) & 0x7fffffffu) != 0 ? a : b; }

EXACT_FN float exact_bf16(float a) {
  exact_u32 u = exact_bits(a);
  exact_u32 rounded = (u + 0x7fffu + (u >> 16 & 1u)) & 0xffff0000u;
  return exact_float((u & 0x7fffffffu) > 0x7f800000u ? EXACT_NAN_BITS : rounded);
}

EXACT_FN float exact_exp(float x) {
  // What lies outside is computed as well, of a value within, and not taken: so nothing branches.
  float inside = x < -104.0f ? -104.0f : x;
  float magic = exact_float(0x4b400000u);
  float t, n, r, p, y;
  exact_i32 k, h;
  inside = inside > 89.0f ? 89.0f : inside;
  inside = x != x ? 0.0f : inside;
  t = exact_fma_raw(inside, exact_float(0x3fb8aa3bu), magic);
  n = exact_sub_raw(t, magic);
  r = exact_fma_raw(n, exact_float(0xbf318000u), inside);
  r = exact_fma_raw(n, exact_float(0x395e8083u), r);
  p = exact_float(0x39506967u);
  p = exact_fma_raw(p, r, exact_float(0x3ab743ceu));
  p = exact_fma_raw(p, r, exact_float(0x3c088908u));
  p = exact_fma_raw(p, r, exact_float(0x3d2aa9c1u));
  p = exact_fma_raw(p, r, exact_float(0x3e2aaaaau));
  p = exact_fma_raw(p, r, exact_float(0x3f000000u));
  y = exact_add_raw(exact_fma_raw(p, exact_mul_raw(r, r), r), 1.0f);
  // The last bits of t are the whole number.
  k = (exact_i32)(exact_bits(t) - 0x4b400000u);
  h = k >> 1;
  y = exact_mul_raw(y, exact_float((exact_u32)(h + 127) << 23));
  y = exact_mul_raw(y, exact_float((exact_u32)(k - h + 127) << 23));
  y = x < -104.0f ? 0.0f : y;
  y = x > 89.0f ? exact_float(0x7f800000u) : y;
  return x != x ? exact_float(EXACT_NAN_BITS) : y;
}

EXACT_FN float exact_log(float x) {
  exact_u32 u = exact_bits(x);
  exact_u32 small = u < 0x00800000u;
  float scaled = exact_mul_raw(x, exact_float(0x4b000000u));
  float inside = small ? scaled : x;
  exact_i32 i = (exact_i32)(exact_bits(inside) - 0x3f3504f3u);
  float e = (float)((i >> 23) - (small ? 23 : 0));
  float m = exact_float(((exact_u32)i & 0x007fffffu) + 0x3f3504f3u);
  float f = exact_sub_raw(m, 1.0f);
  float z = exact_mul_raw(f, f);
  float p, y;
  p = exact_float(0x3d9021bbu);
  p = exact_fma_raw(p, f, exact_float(0xbdebd1b8u));
  p = exact_fma_raw(p, f, exact_float(0x3def251au));
  p = exact_fma_raw(p, f, exact_float(0xbdfe5d4fu));
  p = exact_fma_raw(p, f, exact_float(0x3e11e9bfu));
  p = exact_fma_raw(p, f, exact_float(0xbe2aae50u));
  p = exact_fma_raw(p, f, exact_float(0x3e4cceacu));
  p = exact_fma_raw(p, f, exact_float(0xbe7ffffcu));
  p = exact_fma_raw(p, f, exact_float(0x3eaaaaaau));
  y = exact_mul_raw(p, exact_mul_raw(f, z));
  y = exact_fma_raw(e, exact_float(0xb95e8083u), y);
  y = exact_fma_raw(z, exact_float(0xbf000000u), y);
  y = exact_add_raw(f, y);
  y = exact_fma_raw(e, exact_float(0x3f318000u), y);
  y = u == 0x7f800000u ? x : y;
  y = (u & 0x7fffffffu) == 0 ? exact_float(0xff800000u) : y;
  return x != x || x < 0.0f ? exact_float(EXACT_NAN_BITS) : y;
}

// ---- Indices and random numbers ----

// The row that a GATHER's index names, or -1 for a row of zeros.
EXACT_FN exact_i32 exact_row(float x, exact_u32 rows) {
  exact_i32 row;
  if (!(x >= 0.0f) || !(x < 2147483648.0f)) return -1;
  row = (exact_i32)x;
  return (float)row == x && (exact_u32)row < rows ? row : -1;
}

// Philox 4x32-10. words: the counter, which becomes the result.
EXACT_FN void exact_philox(exact_u32 key0, exact_u32 key1, exact_u32 words[4]) {
  int round;
  for (round = 0; round < 10; round++) {
    exact_u64 left = (exact_u64)words[0] * 0xd2511f53u;
    exact_u64 right = (exact_u64)words[2] * 0xcd9e8d57u;
    exact_u32 low = words[1] ^ key0, high = words[3] ^ key1;
    words[0] = (exact_u32)(right >> 32) ^ low;
    words[1] = (exact_u32)right;
    words[2] = (exact_u32)(left >> 32) ^ high;
    words[3] = (exact_u32)left;
    key0 += 0x9e3779b9u;
    key1 += 0xbb67ae85u;
  }
}

// The value of one of Philox's words.
EXACT_FN float exact_unit(exact_u32 word) {
  return exact_mul_raw((float)(exact_i32)(word >> 8), exact_float(0x33800000u));
}

EXACT_FN float exact_uniform(exact_u32 key0, exact_u32 key1, exact_u64 step, exact_u32 op, exact_u32 element) {
  exact_u32 words[4];
  words[0] = element / 4u;
  words[1] = op;
  words[2] = (exact_u32)step;
  words[3] = (exact_u32)(step >> 32);
  exact_philox(key0, key1, words);
  return exact_unit(words[element % 4u]);
}

// ---- Reductions, one element at a time; strides count elements ----

EXACT_FN float exact_dot(const float *a, exact_i64 a_stride, const float *b, exact_i64 b_stride, exact_i64 n) {
  float total = 0.0f;
  exact_i64 begin, p;
  for (begin = 0; begin < n; begin += EXACT_BLOCK) {
    exact_i64 end = n - begin < EXACT_BLOCK ? n : begin + EXACT_BLOCK;
    float sum = 0.0f;
    for (p = begin; p < end; p++) sum = exact_fma(a[p * a_stride], b[p * b_stride], sum);
    total = begin ? exact_add(total, sum) : sum;
  }
  return total;
}

EXACT_FN float exact_sum(const float *x, exact_i64 stride, exact_i64 n) {
  float total = 0.0f;
  exact_i64 begin, p;
  for (begin = 0; begin < n; begin += EXACT_BLOCK) {
    exact_i64 end = n - begin < EXACT_BLOCK ? n : begin + EXACT_BLOCK;
    float sum = 0.0f;
    for (p = begin; p < end; p++) sum = exact_add(x[p * stride], sum);
    total = begin ? exact_add(total, sum) : sum;
  }
  return total;
}

EXACT_FN float exact_maximum(const float *x, exact_i64 stride, exact_i64 n) {
  float total = exact_float(0xff800000u);
  exact_i64 begin, p;
  for (begin = 0; begin < n; begin += EXACT_BLOCK) {
    exact_i64 end = n - begin < EXACT_BLOCK ? n : begin + EXACT_BLOCK;
    float most = exact_float(0xff800000u);
    for (p = begin; p < end; p++) most = exact_max(most, x[p * stride]);
    total = begin ? exact_max(total, most) : most;
  }
  return total;
}

#endif
