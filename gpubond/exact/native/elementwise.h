// SPDX-License-Identifier: Apache-2.0
// Operations element by element, for one instruction set: loops that the compiler vectorises.

#define IVDEP _Pragma("GCC ivdep")
// Inputs and output are the same places, or do not meet.
#define LOOP(name, expression)                                                                                    \
  static void NAME(name)(float *to, const float *a, const float *b, const float *c, exact_i64 count) {            \
    (void)a, (void)b, (void)c;                                                                                    \
    IVDEP for (exact_i64 i = 0; i < count; i++) to[i] = expression;                                               \
  }
LOOP(add, exact_add(a[i], b[i]))
LOOP(sub, exact_sub(a[i], b[i]))
LOOP(mul, exact_mul(a[i], b[i]))
LOOP(div, exact_div(a[i], b[i]))
LOOP(max, exact_max(a[i], b[i]))
LOOP(gt, exact_gt(a[i], b[i]))
LOOP(fma, exact_fma(a[i], b[i], c[i]))
LOOP(sqrt, exact_sqrt(a[i]))
LOOP(exp, exact_exp(a[i]))
LOOP(log, exact_log(a[i]))
#undef LOOP

// Those that copy or change bits go by integers.
#define LOOP(name, expression)                                                                                    \
  static void NAME(name)(float *to_, const float *a_, const float *b_, const float *c_, exact_i64 count) {        \
    exact_u32 *to = (exact_u32 *)to_;                                                                             \
    const exact_u32 *a = (const exact_u32 *)a_, *b = (const exact_u32 *)b_, *c = (const exact_u32 *)c_;           \
    (void)b, (void)c;                                                                                             \
    IVDEP for (exact_i64 i = 0; i < count; i++) to[i] = expression;                                               \
  }
#define IS_NAN(u) (((u) & 0x7fffffffu) > 0x7f800000u)
LOOP(neg, IS_NAN(a[i]) ? EXACT_NAN_BITS : a[i] ^ 0x80000000u)
LOOP(select, (a[i] & 0x7fffffffu) != 0 ? b[i] : c[i])
LOOP(bf16, IS_NAN(a[i]) ? EXACT_NAN_BITS : (a[i] + 0x7fffu + (a[i] >> 16 & 1u)) & 0xffff0000u)
#undef LOOP
#undef IS_NAN

// By opcode, from ADD on.
static Elementwise *const NAME(elementwise)[] = {
    NAME(add),    NAME(sub),  NAME(mul), NAME(div), NAME(max), NAME(gt),   NAME(fma),
    NAME(select), NAME(sqrt), NAME(neg), NAME(exp), NAME(log), NAME(bf16),
};

// Elements first .. first + count of a UNIFORM.
static void NAME(uniform)(float *to, exact_u32 key0, exact_u32 key1, exact_u64 step, exact_u32 op, exact_i64 first,
                          exact_i64 count) {
  enum { LANES = 64 };
  exact_i64 end = first + count;
  while (first < end && (first % 4 != 0 || end - first < 4 * LANES)) {
    *to++ = exact_uniform(key0, key1, step, op, (exact_u32)first);
    first++;
  }
  for (; end - first >= 4 * LANES; first += 4 * LANES, to += 4 * LANES) {
    exact_u32 w0[LANES], w1[LANES], w2[LANES], w3[LANES];
    exact_u32 k0 = key0, k1 = key1;
    for (exact_u32 i = 0; i < LANES; i++) {
      w0[i] = (exact_u32)(first / 4) + i;
      w1[i] = op;
      w2[i] = (exact_u32)step;
      w3[i] = (exact_u32)(step >> 32);
    }
    for (int round = 0; round < 10; round++) {
      for (int i = 0; i < LANES; i++) {
        exact_u64 left = (exact_u64)w0[i] * 0xd2511f53u, right = (exact_u64)w2[i] * 0xcd9e8d57u;
        w0[i] = (exact_u32)(right >> 32) ^ w1[i] ^ k0;
        w1[i] = (exact_u32)right;
        w2[i] = (exact_u32)(left >> 32) ^ w3[i] ^ k1;
        w3[i] = (exact_u32)left;
      }
      k0 += 0x9e3779b9u;
      k1 += 0xbb67ae85u;
    }
    for (int i = 0; i < LANES; i++) {
      to[4 * i] = exact_unit(w0[i]);
      to[4 * i + 1] = exact_unit(w1[i]);
      to[4 * i + 2] = exact_unit(w2[i]);
      to[4 * i + 3] = exact_unit(w3[i]);
    }
  }
  while (first < end) {
    *to++ = exact_uniform(key0, key1, step, op, (exact_u32)first);
    first++;
  }
}
