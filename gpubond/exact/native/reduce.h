// SPDX-License-Identifier: Apache-2.0
// SUM, ROWMAX, skinny products and transposition, for one instruction set: many chains at once, each in its order.

// Sums of `count` <= EXACT_BLOCK terms from each of VL rows, one chain a lane. held: VL * EXACT_BLOCK floats.
static inline V NAME(chains)(const float *const *rows, exact_i64 count, float *held) {
  V sum = v_zero();
#if VL > 1
  exact_i64 p = NAME(turn)(rows, count, held, VL);
  for (exact_i64 q = 0; q < p; q++) sum = v_add(v_load(held + q * VL), sum);
  for (; p < count; p++) {
    for (int i = 0; i < VL; i++) held[i] = rows[i][p];
    sum = v_add(v_load(held), sum);
  }
#else
  (void)held;
  for (exact_i64 p = 0; p < count; p++) sum = v_add(rows[0][p], sum);
#endif
  return sum;
}

// Sums of VL rows at most, each of consecutive elements.
static void NAME(sum_rows)(const float *const *given, int rows, exact_i64 n, float *to, float *held) {
  const float *here[VL];
  float out[VL];
  if (rows == 1 && n >= 2 * EXACT_BLOCK && VL > 1) {
    // One long row: its blocks are the chains.
    float total = 0.0f;
    exact_i64 blocks = n / EXACT_BLOCK, done = 0;
    while (done < blocks) {
      int now = (int)(blocks - done < VL ? blocks - done : VL);
      for (int i = 0; i < VL; i++) here[i] = given[0] + (done + (i < now ? i : 0)) * EXACT_BLOCK;
      v_store(out, NAME(chains)(here, EXACT_BLOCK, held));
      for (int i = 0; i < now; i++) total = done + i ? exact_add_raw(total, out[i]) : out[i];
      done += now;
    }
    if (n % EXACT_BLOCK) total = exact_add_raw(total, exact_sum(given[0] + blocks * EXACT_BLOCK, 1, n % EXACT_BLOCK));
    *to = exact_canonical(total);
    return;
  }
  V total = v_zero();
  for (exact_i64 begin = 0; begin < n; begin += EXACT_BLOCK) {
    for (int i = 0; i < VL; i++) here[i] = given[i < rows ? i : 0] + begin;
    V sum = NAME(chains)(here, n - begin < EXACT_BLOCK ? n - begin : EXACT_BLOCK, held);
    total = begin ? v_add(total, sum) : sum;
  }
  v_store(out, v_canonical(total));
  for (int i = 0; i < rows; i++) to[i] = out[i];
}

// Sums of columns: term p of sum i is x[i + p * stride]. The compiler makes vectors of the sums.
enum { NAME(WIDTH) = 4 * VL };
static void NAME(sum_columns)(const float *x, exact_i64 stride, exact_i64 n, float *to, exact_i64 columns) {
  exact_i64 at = 0;
  for (; at + 4 * VL <= columns; at += 4 * VL) {
    V total[4] = {v_zero(), v_zero(), v_zero(), v_zero()};
    for (exact_i64 begin = 0; begin < n; begin += EXACT_BLOCK) {
      exact_i64 end = n - begin < EXACT_BLOCK ? n : begin + EXACT_BLOCK;
      V sum[4] = {v_zero(), v_zero(), v_zero(), v_zero()};
      for (exact_i64 p = begin; p < end; p++)
        for (int i = 0; i < 4; i++) sum[i] = v_add(v_load(x + at + p * stride + i * VL), sum[i]);
      for (int i = 0; i < 4; i++) total[i] = begin ? v_add(total[i], sum[i]) : sum[i];
    }
    for (int i = 0; i < 4; i++) v_store(to + at + i * VL, v_canonical(total[i]));
  }
  for (; at < columns; at++) to[at] = exact_sum(x + at, stride, n);
}

// The maximum of one row of consecutive elements. Which zero it is, if it is one, the last zero tells.
static float NAME(max_row)(const float *x, exact_i64 n) {
  enum { LANES = 64 };
  float most[LANES];
  exact_u32 nans[LANES];
  exact_i64 p = 0;
  float result = exact_float(0xff800000u);
  exact_u32 nan = 0;
  if (n >= LANES) {
    for (int i = 0; i < LANES; i++) {
      most[i] = exact_float(0xff800000u);
      nans[i] = 0;
    }
    for (; p + LANES <= n; p += LANES)
      for (int i = 0; i < LANES; i++) {
        float term = x[p + i];
        most[i] = most[i] > term ? most[i] : term;
        nans[i] |= term != term ? 1u : 0u;
      }
    for (int i = 0; i < LANES; i++) {
      result = result > most[i] ? result : most[i];
      nan |= nans[i];
    }
  }
  for (; p < n; p++) {
    result = result > x[p] ? result : x[p];
    nan |= x[p] != x[p] ? 1u : 0u;
  }
  if (nan) return exact_float(EXACT_NAN_BITS);
  if (result == 0.0f)
    for (p = n; p-- > 0;)
      if (x[p] == 0.0f) return x[p];
  return result;
}

static void NAME(max_columns)(const float *x, exact_i64 stride, exact_i64 n, float *to, exact_i64 columns) {
  for (exact_i64 i = 0; i < columns; i++) to[i] = exact_float(0xff800000u);
  // Blocks change nothing: the maximum of totals is the last of the greatest too.
  for (exact_i64 p = 0; p < n; p++) {
    const float *row = x + p * stride;
    IVDEP for (exact_i64 i = 0; i < columns; i++) to[i] = exact_max(to[i], row[i]);
  }
}

#if defined(EXACT_AVX512)
// Turns 16 vectors, of a row each, into those of columns.
static inline __attribute__((always_inline)) void NAME(square)(__m512 v[16]) {
  __m512 w[16];
#pragma GCC unroll 8
  for (int i = 0; i < 16; i += 2) {
    w[i] = _mm512_unpacklo_ps(v[i], v[i + 1]);
    w[i + 1] = _mm512_unpackhi_ps(v[i], v[i + 1]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 16; i += 4) {
    __m512d a = _mm512_castps_pd(w[i]), b = _mm512_castps_pd(w[i + 1]);
    __m512d c = _mm512_castps_pd(w[i + 2]), d = _mm512_castps_pd(w[i + 3]);
    v[i] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, c));
    v[i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, c));
    v[i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(b, d));
    v[i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(b, d));
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; i++) {
    __m512 low = _mm512_shuffle_f32x4(v[i], v[4 + i], 0x88), high = _mm512_shuffle_f32x4(v[i], v[4 + i], 0xdd);
    __m512 low2 = _mm512_shuffle_f32x4(v[8 + i], v[12 + i], 0x88);
    __m512 high2 = _mm512_shuffle_f32x4(v[8 + i], v[12 + i], 0xdd);
    w[i] = _mm512_shuffle_f32x4(low, low2, 0x88);
    w[4 + i] = _mm512_shuffle_f32x4(high, high2, 0x88);
    w[8 + i] = _mm512_shuffle_f32x4(low, low2, 0xdd);
    w[12 + i] = _mm512_shuffle_f32x4(high, high2, 0xdd);
  }
#pragma GCC unroll 16
  for (int i = 0; i < 16; i++) v[i] = w[i];
}
#endif

// Dots of one row of A with VL rows of B, of which `columns` are there; all of consecutive elements.
static void NAME(dots)(const float *a, const float *b, exact_i64 b_row, int columns, exact_i64 n, float *to) {
  const float *rows[VL];
  float out[VL];
  V total = v_zero();
  for (int i = 0; i < VL; i++) rows[i] = b + (i < columns ? i : 0) * b_row;
  for (exact_i64 begin = 0; begin < n; begin += EXACT_BLOCK) {
    exact_i64 p = begin, end = n - begin < EXACT_BLOCK ? n : begin + EXACT_BLOCK;
    V sum = v_zero();
#if defined(EXACT_AVX512)
    for (; p + 16 <= end; p += 16) {
      // Whole cache lines of each row at once: rows that lie a power of two apart drive each other out.
      __m512 v[16];
#pragma GCC unroll 16
      for (int i = 0; i < 16; i++) {
        v[i] = _mm512_loadu_ps(rows[i] + p);
        __builtin_prefetch(rows[i] + p + DOTS_PREFETCH);
      }
      NAME(square)(v);
#pragma GCC unroll 16
      for (int i = 0; i < 16; i++) sum = v_fma(v_all(a[p + i]), v[i], sum);
    }
#elif VL > 1
    float held[VL * 16];
    while (p + 16 <= end) {
      const float *here[VL];
      for (int i = 0; i < VL; i++) {
        here[i] = rows[i] + p;
        __builtin_prefetch(rows[i] + p + DOTS_PREFETCH);
      }
      exact_i64 taken = NAME(turn)(here, 16, held, VL);
      if (taken == 0) break;
      for (exact_i64 q = 0; q < taken; q++) sum = v_fma(v_all(a[p + q]), v_load(held + q * VL), sum);
      p += taken;
    }
#endif
    for (; p < end; p++) {
      for (int i = 0; i < VL; i++) out[i] = rows[i][p];
      sum = v_fma(v_all(a[p]), v_load(out), sum);
    }
    total = begin ? v_add(total, sum) : sum;
  }
  v_store(out, v_canonical(total));
  for (int i = 0; i < columns; i++) to[i] = out[i];
}
