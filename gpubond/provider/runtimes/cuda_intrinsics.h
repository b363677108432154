// SPDX-License-Identifier: Apache-2.0
// CUDA's intrinsic functions on integers, bits and roundings, exact as on a GPU. Part of cuda_host.h.
#pragma once

// Bits.
static inline int __popc(unsigned x) { return __builtin_popcount(x); }
static inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
static inline int __clz(int x) { return x ? __builtin_clz((unsigned)x) : 32; }
static inline int __clzll(long long x) { return x ? __builtin_clzll((unsigned long long)x) : 64; }
static inline int __ffs(int x) { return __builtin_ffs(x); }
static inline int __ffsll(long long x) { return __builtin_ffsll(x); }
static inline unsigned __brev(unsigned x) {
  x = (x >> 1 & 0x55555555u) | (x & 0x55555555u) << 1;
  x = (x >> 2 & 0x33333333u) | (x & 0x33333333u) << 2;
  x = (x >> 4 & 0x0f0f0f0fu) | (x & 0x0f0f0f0fu) << 4;
  return __builtin_bswap32(x);
}
static inline unsigned long long __brevll(unsigned long long x) {
  return (unsigned long long)__brev((unsigned)x) << 32 | __brev((unsigned)(x >> 32));
}
static inline unsigned __byte_perm(unsigned x, unsigned y, unsigned selector) {
  const unsigned long long both = (unsigned long long)y << 32 | x;
  unsigned result = 0;
  for (int i = 0; i < 4; i++) {
    const unsigned chosen = selector >> (4 * i) & 15u;
    unsigned byte = (unsigned)(both >> (8 * (chosen & 7u))) & 255u;
    if (chosen & 8u) byte = byte & 128u ? 255u : 0u;  // its sign, repeated
    result |= byte << (8 * i);
  }
  return result;
}
static inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned shift) {
  return (unsigned)(((unsigned long long)high << 32 | low) << (shift & 31u) >> 32);
}
static inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift) {
  return (unsigned)(((unsigned long long)high << 32 | low) >> (shift & 31u));
}

// Integers.
static inline int __mul24(int a, int b) { return (int)((unsigned)((a << 8) >> 8) * (unsigned)((b << 8) >> 8)); }
static inline unsigned __umul24(unsigned a, unsigned b) { return (a & 0xffffffu) * (b & 0xffffffu); }
static inline int __mulhi(int a, int b) { return (int)(((long long)a * b) >> 32); }
static inline unsigned __umulhi(unsigned a, unsigned b) { return (unsigned)(((unsigned long long)a * b) >> 32); }
static inline long long __mul64hi(long long a, long long b) { return (long long)(((__int128)a * b) >> 64); }
static inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
  return (unsigned long long)(((unsigned __int128)a * b) >> 64);
}
static inline unsigned __sad(int a, int b, unsigned c) { return c + (unsigned)(a < b ? (long long)b - a : (long long)a - b); }
static inline unsigned __usad(unsigned a, unsigned b, unsigned c) { return c + (a < b ? b - a : a - b); }
static inline int __hadd(int a, int b) { return (int)(((long long)a + b) >> 1); }
static inline int __rhadd(int a, int b) { return (int)(((long long)a + b + 1) >> 1); }
static inline unsigned __uhadd(unsigned a, unsigned b) { return (unsigned)(((unsigned long long)a + b) >> 1); }
static inline unsigned __urhadd(unsigned a, unsigned b) { return (unsigned)(((unsigned long long)a + b + 1) >> 1); }
static inline int __dp4a(int a, int b, int c) {
  unsigned sum = (unsigned)c;
  for (int i = 0; i < 32; i += 8) sum += (unsigned)((int)(signed char)(a >> i) * (int)(signed char)(b >> i));
  return (int)sum;
}
static inline unsigned __dp4a(unsigned a, unsigned b, unsigned c) {
  for (int i = 0; i < 32; i += 8) c += (a >> i & 255u) * (b >> i & 255u);
  return c;
}

// Floating point, rounded to the nearest.
static inline float __fadd_rn(float a, float b) { return a + b; }
static inline float __fsub_rn(float a, float b) { return a - b; }
static inline float __fmul_rn(float a, float b) { return a * b; }
static inline float __fdiv_rn(float a, float b) { return a / b; }
static inline float __fsqrt_rn(float a) { return sqrtf(a); }
static inline float __frcp_rn(float a) { return 1.0f / a; }
static inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
static inline double __dadd_rn(double a, double b) { return a + b; }
static inline double __dsub_rn(double a, double b) { return a - b; }
static inline double __dmul_rn(double a, double b) { return a * b; }
static inline double __ddiv_rn(double a, double b) { return a / b; }
static inline double __dsqrt_rn(double a) { return sqrt(a); }
static inline double __drcp_rn(double a) { return 1.0 / a; }
static inline double __fma_rn(double a, double b, double c) { return fma(a, b, c); }

// Conversions to integers end at the type's bounds, and NaN becomes 0 (of 32 bits) or the least (of 64): as on a GPU.
namespace gpubond {
template <class T, class F> static inline T to_integer(F value) {
  const T least = (T)(T(-1) < T(0) ? T(1) << (sizeof(T) * 8 - 1) : T(0));
  if (value != value) return sizeof(T) == 8 ? (T)(1ull << 63) : T(0);
  if (value >= ldexp(1.0, (int)sizeof(T) * 8 - (T(-1) < T(0) ? 1 : 0))) return (T)~least;
  return value <= (F)least ? least : (T)value;
}
}  // namespace gpubond
#define GPUBOND_TO_INTEGER(name, F, suffix, T)                                                  \
  static inline T __##name##_rn(F x) { return gpubond::to_integer<T>(rint##suffix(x)); }        \
  static inline T __##name##_rz(F x) { return gpubond::to_integer<T>(trunc##suffix(x)); }       \
  static inline T __##name##_ru(F x) { return gpubond::to_integer<T>(ceil##suffix(x)); }        \
  static inline T __##name##_rd(F x) { return gpubond::to_integer<T>(floor##suffix(x)); }
GPUBOND_TO_INTEGER(float2int, float, f, int)
GPUBOND_TO_INTEGER(float2uint, float, f, unsigned)
GPUBOND_TO_INTEGER(float2ll, float, f, long long)
GPUBOND_TO_INTEGER(float2ull, float, f, unsigned long long)
GPUBOND_TO_INTEGER(double2int, double, , int)
GPUBOND_TO_INTEGER(double2uint, double, , unsigned)
GPUBOND_TO_INTEGER(double2ll, double, , long long)
GPUBOND_TO_INTEGER(double2ull, double, , unsigned long long)
static inline float __int2float_rn(int x) { return (float)x; }
static inline float __uint2float_rn(unsigned x) { return (float)x; }
static inline float __ll2float_rn(long long x) { return (float)x; }
static inline float __ull2float_rn(unsigned long long x) { return (float)x; }
static inline float __double2float_rn(double x) { return (float)x; }
static inline double __int2double_rn(int x) { return x; }
static inline double __uint2double_rn(unsigned x) { return x; }
static inline double __ll2double_rn(long long x) { return (double)x; }
static inline double __ull2double_rn(unsigned long long x) { return (double)x; }
static inline int __double2hiint(double x) { return (int)(gpubond::bits<long long>(x) >> 32); }
static inline int __double2loint(double x) { return (int)gpubond::bits<long long>(x); }
static inline double __hiloint2double(int high, int low) {
  return gpubond::bits<double>((unsigned long long)(unsigned)high << 32 | (unsigned)low);
}

// Memory, with advice to caches that there are not.
#define GPUBOND_LOAD(name) \
  template <class T> static inline T name(const T* p) { return *p; }
GPUBOND_LOAD(__ldg)
GPUBOND_LOAD(__ldca)
GPUBOND_LOAD(__ldcg)
GPUBOND_LOAD(__ldcs)
GPUBOND_LOAD(__ldlu)
GPUBOND_LOAD(__ldcv)
#define GPUBOND_STORE(name) \
  template <class T> static inline void name(T* p, T value) { *p = value; }
GPUBOND_STORE(__stcg)
GPUBOND_STORE(__stcs)
GPUBOND_STORE(__stwb)
GPUBOND_STORE(__stwt)
#if !defined(__clang__)
#define __builtin_assume(condition) ((void)0)
#endif
