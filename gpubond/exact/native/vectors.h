// SPDX-License-Identifier: Apache-2.0
// Vectors of one instruction set under common names; included once for each set, with NAME(x) defined.
// V: a vector of VL floats. ROWS x (2 * VL) is the tile of C that the matrix kernel keeps in registers.

#if defined(EXACT_AVX512)
#define V __m512
#define VL 16
#define ROWS 12
#define v_load(p) _mm512_loadu_ps(p)
#define v_load_some(p, n) _mm512_maskz_loadu_ps((__mmask16)((1u << (n)) - 1), p)
#define v_store(p, v) _mm512_storeu_ps(p, v)
#define v_all(x) _mm512_set1_ps(x)
#define v_zero() _mm512_setzero_ps()
#define v_fma(a, b, c) _mm512_fmadd_ps(a, b, c)
#define v_add(a, b) _mm512_add_ps(a, b)
#define v_canonical(a) \
  _mm512_mask_mov_ps(a, _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q), _mm512_castsi512_ps(_mm512_set1_epi32(EXACT_NAN_BITS)))
#elif defined(EXACT_AVX2)
#define V __m256
#define VL 8
#define ROWS 6
#define v_load(p) _mm256_loadu_ps(p)
#define v_load_some(p, n) \
  _mm256_maskload_ps(p, _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)))
#define v_store(p, v) _mm256_storeu_ps(p, v)
#define v_all(x) _mm256_set1_ps(x)
#define v_zero() _mm256_setzero_ps()
#define v_fma(a, b, c) _mm256_fmadd_ps(a, b, c)
#define v_add(a, b) _mm256_add_ps(a, b)
#define v_canonical(a) \
  _mm256_blendv_ps(a, _mm256_castsi256_ps(_mm256_set1_epi32(EXACT_NAN_BITS)), _mm256_cmp_ps(a, a, _CMP_UNORD_Q))
#elif defined(__ARM_NEON) && defined(__aarch64__)
#define V float32x4_t
#define VL 4
#define ROWS 8
#define v_load(p) vld1q_f32(p)
static inline V NAME(load_some)(const float *p, int n) {
  float held[VL] = {0};
  for (int i = 0; i < n; i++) held[i] = p[i];
  return vld1q_f32(held);
}
#define v_load_some(p, n) NAME(load_some)(p, n)
#define v_store(p, v) vst1q_f32(p, v)
#define v_all(x) vdupq_n_f32(x)
#define v_zero() vdupq_n_f32(0.0f)
#define v_fma(a, b, c) vfmaq_f32(c, a, b)
#define v_add(a, b) vaddq_f32(a, b)
#define v_canonical(a) vbslq_f32(vceqq_f32(a, a), a, vreinterpretq_f32_u32(vdupq_n_u32(EXACT_NAN_BITS)))
#else
#define V float
#define VL 1
#define ROWS 4
#define v_load(p) (*(p))
#define v_load_some(p, n) (*(p))
#define v_store(p, v) (*(p) = (v))
#define v_all(x) (x)
#define v_zero() 0.0f
#define v_fma(a, b, c) exact_fma_raw(a, b, c)
#define v_add(a, b) exact_add_raw(a, b)
#define v_canonical(a) exact_canonical(a)
#endif
// Columns of a packed panel.
#define COLUMNS (2 * VL)

// Turns a few columns of VL rows, given by pointers, into columns[p * width + row]. As many columns are taken as
// fill vectors; the number is returned. A vector's worth is written for each, in order, whatever the width.
static inline exact_i64 NAME(turn)(const float *const *rows, exact_i64 count, float *columns, exact_i64 width) {
  exact_i64 p = 0;
#if defined(EXACT_AVX512)
  for (; p + 4 <= count; p += 4) {
    __m512 four[4];
    for (int i = 0; i < 4; i++) {
      __m512 v = _mm512_castps128_ps512(_mm_loadu_ps(rows[i] + p));
      v = _mm512_insertf32x4(v, _mm_loadu_ps(rows[4 + i] + p), 1);
      v = _mm512_insertf32x4(v, _mm_loadu_ps(rows[8 + i] + p), 2);
      four[i] = _mm512_insertf32x4(v, _mm_loadu_ps(rows[12 + i] + p), 3);
    }
    __m512d low0 = _mm512_castps_pd(_mm512_unpacklo_ps(four[0], four[1]));
    __m512d low1 = _mm512_castps_pd(_mm512_unpacklo_ps(four[2], four[3]));
    __m512d high0 = _mm512_castps_pd(_mm512_unpackhi_ps(four[0], four[1]));
    __m512d high1 = _mm512_castps_pd(_mm512_unpackhi_ps(four[2], four[3]));
    _mm512_storeu_pd((double *)(columns + p * width), _mm512_unpacklo_pd(low0, low1));
    _mm512_storeu_pd((double *)(columns + (p + 1) * width), _mm512_unpackhi_pd(low0, low1));
    _mm512_storeu_pd((double *)(columns + (p + 2) * width), _mm512_unpacklo_pd(high0, high1));
    _mm512_storeu_pd((double *)(columns + (p + 3) * width), _mm512_unpackhi_pd(high0, high1));
  }
#elif defined(EXACT_AVX2)
  for (; p + 4 <= count; p += 4) {
    __m256 four[4];
    for (int i = 0; i < 4; i++)
      four[i] = _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(rows[i] + p)), _mm_loadu_ps(rows[4 + i] + p), 1);
    __m256d low0 = _mm256_castps_pd(_mm256_unpacklo_ps(four[0], four[1]));
    __m256d low1 = _mm256_castps_pd(_mm256_unpacklo_ps(four[2], four[3]));
    __m256d high0 = _mm256_castps_pd(_mm256_unpackhi_ps(four[0], four[1]));
    __m256d high1 = _mm256_castps_pd(_mm256_unpackhi_ps(four[2], four[3]));
    _mm256_storeu_pd((double *)(columns + p * width), _mm256_unpacklo_pd(low0, low1));
    _mm256_storeu_pd((double *)(columns + (p + 1) * width), _mm256_unpackhi_pd(low0, low1));
    _mm256_storeu_pd((double *)(columns + (p + 2) * width), _mm256_unpacklo_pd(high0, high1));
    _mm256_storeu_pd((double *)(columns + (p + 3) * width), _mm256_unpackhi_pd(high0, high1));
  }
#else
  (void)rows, (void)count, (void)columns, (void)width;
#endif
  return p;
}
