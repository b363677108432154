// SPDX-License-Identifier: Apache-2.0
// Exact programs on the processor: carries out plans (plan.h), one call a step. Everything is compiled as one file.
//
// Flags: -O3 -ffp-contract=off -fno-math-errno -fno-trapping-math -fno-strict-aliasing. None of them changes a bit.

#if !defined(__GNUC__)
#error "needs GCC or Clang"
#endif
#if defined(__FAST_MATH__)
#error "must not be compiled with -ffast-math"
#endif
#if defined(__i386__) && !defined(__SSE2_MATH__)
#error "needs -msse2 -mfpmath=sse: x87 rounds twice"
#endif

#include "plan.h"

#include <stdlib.h>

#include "pool.h"
#include "sha256.h"

#if defined(__aarch64__)
#include <arm_neon.h>
#endif

// Floats that packing may write beyond a panel of A.
#define PANEL_SLACK 16
// Steps of the tile's loop that B is fetched ahead.
#define PREFETCH 8
#define DOTS_PREFETCH 128
// Rows of A and columns of B that are packed at a time: 2 MiB for the third cache, 1 MiB for the second.
#define PACKED_ROWS 1020
#define PACKED_COLUMNS 512

typedef void Elementwise(float *to, const float *a, const float *b, const float *c, exact_i64 count);

// ---- Instruction sets ----

#define JOIN_(a, b) a##_##b
#define JOIN(a, b) JOIN_(a, b)
#define NAME(x) JOIN(x, SET)

#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512vl,avx512dq,avx512bw,avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512vl,avx512dq,avx512bw,avx2,fma,prefer-vector-width=512")
#endif
#define SET avx512
#define EXACT_AVX512
#include "vectors.h"
#include "matmul.h"
#include "elementwise.h"
#include "reduce.h"
#include "sha256_wide.h"
#include "set.h"
#undef EXACT_AVX512
#undef SET
#if defined(__clang__)
#pragma clang attribute pop
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif
#define SET avx2
#define EXACT_AVX2
#include "vectors.h"
#include "matmul.h"
#include "elementwise.h"
#include "reduce.h"
#include "set.h"
#undef EXACT_AVX2
#undef SET
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif

#define SET portable
#include "vectors.h"
#include "matmul.h"
#include "elementwise.h"
#include "reduce.h"
#include "set.h"
#undef SET

static const Set *const sets[] = {
    &set_portable,
#if defined(__x86_64__)
    &set_avx2,
    &set_avx512,
#endif
};

// The highest set that this processor and system have: 0 portable, 1 AVX2, 2 AVX-512.
int exact_best_set(void) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("fma"))
    return 2;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return 1;
#endif
  return 0;
}

static exact_i64 sha_sixteens(const uint8_t *content, exact_i64 size, int piece, int tag, uint8_t *hashes) {
#if defined(__x86_64__)
  if (exact_best_set() == 2) return sha_sixteens_avx512(content, size, piece, tag, hashes);
#endif
  (void)content, (void)size, (void)piece, (void)tag, (void)hashes;
  return 0;
}

const char *exact_set_name(int set) {
  return set < 0 || set >= (int)(sizeof sets / sizeof *sets) ? 0 : sets[set]->name;
}

#ifndef EXACT_FINGERPRINT
#define EXACT_FINGERPRINT ""
#endif
// Of the sources that this was built from.
const char *exact_fingerprint(void) { return EXACT_FINGERPRINT; }

int exact_plan_version(void) { return PLAN_VERSION; }

// ---- Steps ----

typedef struct {
  const Set *set;
  float **bases;
  exact_u64 step;
  // Threads that there are, and that the plan was made for, which may be more. Memory is laid out for the latter.
  int threads, planned;
  // Of each thread: MAX_SLOTS tiles.
  float *tiles;
  // The part of the instruction that is next to be taken.
  _Atomic exact_i64 next;
  exact_i64 parts;
  const void *instruction;
  // Of a product: what is packed.
  const float *a, *b;
  float *to, *packed_a, *packed_b;
  exact_i64 rows, columns, count, a_parts;
  int add, last;
} Run;

static float *at(const Run *run, Place place) { return run->bases[place.base] + place.offset; }

static exact_i64 take(Run *run) {
  exact_i64 part = atomic_fetch_add_explicit(&run->next, 1, memory_order_relaxed);
  return part < run->parts ? part : -1;
}

// Has the threads take parts until none is left. Small work is not handed out: waking others costs more.
static void share(Run *run, exact_i64 parts, exact_i64 cost, Work *work) {
  atomic_store_explicit(&run->next, 0, memory_order_relaxed);
  run->parts = parts;
  exact_i64 useful = cost / 16384 + 1;
  if (useful > parts) useful = parts;
  pool_run(useful < run->threads ? (int)useful : run->threads, work, run);
}

static exact_i64 ceil_div(exact_i64 a, exact_i64 b) { return (a + b - 1) / b; }

#include "steps.h"
#include "product.h"
#include "roots.h"

// Carries out the words begin .. end of a plan. Returns 0, or the word at which something is wrong, plus 1.
exact_i64 exact_run(const exact_i64 *plan, exact_i64 begin, exact_i64 end, float **bases, exact_u64 step, int threads,
                    int set) {
  exact_i64 wrong = 0;
  if (set < 0 || set > exact_best_set()) return -1;
  pthread_mutex_lock(&pool.busy);
  uint64_t state = float_state_enter();
  Run run = {.set = sets[set], .bases = bases, .step = step};
  run.planned = threads < 1 ? 1 : threads;
  run.threads = pool_start(run.planned);
  run.tiles = own_tiles(run.threads);
  if (run.tiles == NULL) wrong = -2;
  while (!wrong && begin < end) {
    const exact_i64 *words = plan + begin;
    run.instruction = words + 2;
    switch (words[0]) {
      case FUSED: run_fused(&run); break;
      case COPY: run_copy(&run); break;
      case GATHER: run_gather(&run); break;
      case MATMUL: run_matmul(&run); break;
      case SUM:
      case ROWMAX: run_reduce(&run, words[0]); break;
      case ROOTS: run_roots(&run); break;
      default: wrong = begin + 1;
    }
    begin += words[1];
  }
  float_state_leave(state);
  pthread_mutex_unlock(&pool.busy);
  return wrong;
}
