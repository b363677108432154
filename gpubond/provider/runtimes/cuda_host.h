// SPDX-License-Identifier: Apache-2.0
// CUDA C++ on a host: what the class `cpu-sim` compiles a job's source with, by an ordinary C++ compiler.
//
// Each launch runs all threads of a block in one host thread, blocks spread over several. A source without barriers or
// warp functions runs each block as a plain loop; one with them gives every CUDA thread a fiber that waits at them
// (cuda_fibers.h). What differs from a GPU is in docs/cuda.md. Compile with -ffp-contract=off: a*b+c is then rounded twice, whereas NVRTC contracts it
// unless told --fmad=false. Fast-math intrinsics are computed in full precision.
#pragma once

#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define __global__
#define __device__
#define __host__
#define __constant__
#define __managed__
#define __shared__ static thread_local
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(n) __attribute__((aligned(n)))
#define __CUDA_ARCH__ 800

#define GPUBOND_VECTORS(T, base)                                                            \
  struct base##1 { T x; };                                                                  \
  struct alignas(2 * sizeof(T)) base##2 { T x, y; };                                        \
  struct base##3 { T x, y, z; };                                                            \
  struct alignas(sizeof(T) >= 8 ? 16 : 4 * sizeof(T)) base##4 { T x, y, z, w; };            \
  static inline base##1 make_##base##1(T x) { return {x}; }                                 \
  static inline base##2 make_##base##2(T x, T y) { return {x, y}; }                         \
  static inline base##3 make_##base##3(T x, T y, T z) { return {x, y, z}; }                 \
  static inline base##4 make_##base##4(T x, T y, T z, T w) { return {x, y, z, w}; }
GPUBOND_VECTORS(signed char, char)
GPUBOND_VECTORS(unsigned char, uchar)
GPUBOND_VECTORS(short, short)
GPUBOND_VECTORS(unsigned short, ushort)
GPUBOND_VECTORS(int, int)
GPUBOND_VECTORS(unsigned int, uint)
GPUBOND_VECTORS(long long, longlong)
GPUBOND_VECTORS(unsigned long long, ulonglong)
GPUBOND_VECTORS(float, float)
GPUBOND_VECTORS(double, double)

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
  operator uint3() const { return {x, y, z}; }
};

static thread_local uint3 threadIdx;
static thread_local uint3 blockIdx;
static thread_local dim3 blockDim;
static thread_local dim3 gridDim;
static const int warpSize = 32;

// Mathematics that CUDA has and C does not.
#define GPUBOND_MIN_MAX(T)                                          \
  static inline T min(T a, T b) { return b < a ? b : a; }           \
  static inline T max(T a, T b) { return a < b ? b : a; }
GPUBOND_MIN_MAX(int)
GPUBOND_MIN_MAX(unsigned)
GPUBOND_MIN_MAX(long)
GPUBOND_MIN_MAX(unsigned long)
GPUBOND_MIN_MAX(long long)
GPUBOND_MIN_MAX(unsigned long long)
static inline float min(float a, float b) { return fminf(a, b); }
static inline float max(float a, float b) { return fmaxf(a, b); }
static inline double min(double a, double b) { return fmin(a, b); }
static inline double max(double a, double b) { return fmax(a, b); }
static inline unsigned min(int a, unsigned b) { return min((unsigned)a, b); }
static inline unsigned min(unsigned a, int b) { return min(a, (unsigned)b); }
static inline unsigned max(int a, unsigned b) { return max((unsigned)a, b); }
static inline unsigned max(unsigned a, int b) { return max(a, (unsigned)b); }
static inline double min(float a, double b) { return fmin(a, b); }
static inline double min(double a, float b) { return fmin(a, b); }
static inline double max(float a, double b) { return fmax(a, b); }
static inline double max(double a, float b) { return fmax(a, b); }
static inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
static inline double rsqrt(double x) { return 1.0 / sqrt(x); }
static inline float __saturatef(float x) { return fminf(fmaxf(x, 0.0f), 1.0f); }
static inline float __fdividef(float a, float b) { return a / b; }
// Macros: glibc declares functions of these names for itself.
#define __expf(x) expf(x)
#define __exp10f(x) exp10f(x)
#define __logf(x) logf(x)
#define __log2f(x) log2f(x)
#define __log10f(x) log10f(x)
#define __sinf(x) sinf(x)
#define __cosf(x) cosf(x)
#define __tanf(x) tanf(x)
#define __powf(x, y) powf(x, y)
namespace gpubond {
template <class To, class From> static inline To bits(From from) {
  static_assert(sizeof(To) == sizeof(From), "sizes differ");
  To to;
  memcpy(&to, &from, sizeof to);
  return to;
}
}  // namespace gpubond
static inline int __float_as_int(float x) { return gpubond::bits<int>(x); }
static inline unsigned __float_as_uint(float x) { return gpubond::bits<unsigned>(x); }
static inline float __int_as_float(int x) { return gpubond::bits<float>(x); }
static inline float __uint_as_float(unsigned x) { return gpubond::bits<float>(x); }
static inline long long __double_as_longlong(double x) { return gpubond::bits<long long>(x); }
static inline double __longlong_as_double(long long x) { return gpubond::bits<double>(x); }
#include "cuda_intrinsics.h"

static inline void __threadfence() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
static inline void __threadfence_block() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
static inline void __threadfence_system() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
static inline void __trap() { abort(); }
static inline long long clock64() { return 0; }

// Atomics: blocks run in several host threads.
namespace gpubond {
template <class T, class F> static inline T update(T* place, F change) {
  T seen, next;
  __atomic_load(place, &seen, __ATOMIC_SEQ_CST);
  do {
    next = change(seen);
  } while (!__atomic_compare_exchange(place, &seen, &next, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
  return seen;
}
}  // namespace gpubond
#define GPUBOND_ATOMIC(name, T, expression) \
  static inline T atomic##name(T* p, T v) { return gpubond::update(p, [=](T o) -> T { return expression; }); }
#define GPUBOND_ATOMIC_INTEGER(T)        \
  GPUBOND_ATOMIC(Add, T, o + v)          \
  GPUBOND_ATOMIC(Sub, T, o - v)          \
  GPUBOND_ATOMIC(Min, T, v < o ? v : o)  \
  GPUBOND_ATOMIC(Max, T, o < v ? v : o)  \
  GPUBOND_ATOMIC(And, T, o & v)          \
  GPUBOND_ATOMIC(Or, T, o | v)           \
  GPUBOND_ATOMIC(Xor, T, o ^ v)          \
  GPUBOND_ATOMIC(Exch, T, ((void)o, v))  \
  static inline T atomicCAS(T* p, T compare, T v) { \
    __atomic_compare_exchange_n(p, &compare, v, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST); \
    return compare;                      \
  }
GPUBOND_ATOMIC_INTEGER(int)
GPUBOND_ATOMIC_INTEGER(unsigned)
GPUBOND_ATOMIC_INTEGER(long long)
GPUBOND_ATOMIC_INTEGER(unsigned long long)
GPUBOND_ATOMIC(Add, float, o + v)
GPUBOND_ATOMIC(Add, double, o + v)
GPUBOND_ATOMIC(Exch, float, ((void)o, v))
GPUBOND_ATOMIC(Inc, unsigned, o >= v ? 0u : o + 1u)
GPUBOND_ATOMIC(Dec, unsigned, (o == 0u || o > v) ? v : o - 1u)
// Whether a block or the whole machine is to see it makes no difference here.
#define GPUBOND_SCOPES(name)                                                                                   \
  template <class T, class... V> static inline T name##_block(T* p, V... v) { return name(p, (T)v...); }      \
  template <class T, class... V> static inline T name##_system(T* p, V... v) { return name(p, (T)v...); }
GPUBOND_SCOPES(atomicAdd)
GPUBOND_SCOPES(atomicSub)
GPUBOND_SCOPES(atomicMin)
GPUBOND_SCOPES(atomicMax)
GPUBOND_SCOPES(atomicAnd)
GPUBOND_SCOPES(atomicOr)
GPUBOND_SCOPES(atomicXor)
GPUBOND_SCOPES(atomicExch)
GPUBOND_SCOPES(atomicCAS)

namespace gpubond {
static inline void fail(const char* what) {
  fflush(stdout);
  fprintf(stderr, "cpu-sim: %s\n", what);
  fflush(stderr);
  _exit(121);  // the runtime's code for an error of a launch
}

// Shared memory of a size set at launch, one piece for each host thread. Behind it lies a page that nobody may touch,
// so that who writes beyond it is ended as on a GPU.
#ifndef GPUBOND_DYNAMIC_BYTES
#define GPUBOND_DYNAMIC_BYTES 0
#endif
static __attribute__((noinline)) char* dynamic_shared() {
  static thread_local char* place = nullptr;
  if (place == nullptr) {
    const size_t page = 65536, size = (GPUBOND_DYNAMIC_BYTES + page - 1) / page * page;
    char* start = (char*)mmap(nullptr, size + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (start == MAP_FAILED || mprotect(start + size, page, PROT_NONE) != 0) fail("out of memory for shared memory");
    place = start + size - (GPUBOND_DYNAMIC_BYTES + 127) / 128 * 128;
  }
  return place;
}
}  // namespace gpubond

#ifdef GPUBOND_FIBERS
#include "cuda_fibers.h"
#else
static inline void __nanosleep(unsigned) {}
#endif

static inline void gpubond_assertion(const char* text, const char* file, int line) {
  fflush(stdout);
  fprintf(stderr, "%s:%d: block: [%u,%u,%u], thread: [%u,%u,%u] Assertion `%s` failed.\n", file, line, blockIdx.x,
          blockIdx.y, blockIdx.z, threadIdx.x, threadIdx.y, threadIdx.z, text);
  gpubond::fail("an assertion failed");
}
#undef assert
#ifdef NDEBUG
#define assert(condition) ((void)0)
#else
#define assert(condition) ((condition) ? (void)0 : gpubond_assertion(#condition, __FILE__, __LINE__))
#endif

// Launches: blocks are handed to host threads one by one. The threads stay for the next launch.
namespace gpubond {
template <class F> struct Launch {
  const F* kernel;
  dim3 grid, block;
  unsigned long long blocks;
  unsigned long long next;
};
template <class F> static void call(void* argument) { (*(const F*)argument)(); }
template <class F> static void work(void* argument) {
  Launch<F>& launch = *(Launch<F>*)argument;
  gridDim = launch.grid;
  blockDim = launch.block;
  for (;;) {
    const unsigned long long b = __atomic_fetch_add(&launch.next, 1ull, __ATOMIC_RELAXED);
    if (b >= launch.blocks) return;
    blockIdx = {(unsigned)(b % launch.grid.x), (unsigned)(b / launch.grid.x % launch.grid.y),
                (unsigned)(b / ((unsigned long long)launch.grid.x * launch.grid.y))};
#ifdef GPUBOND_FIBERS
    run_fibers(launch.block, call<F>, (void*)launch.kernel);
#else
    for (unsigned z = 0; z < launch.block.z; z++)
      for (unsigned y = 0; y < launch.block.y; y++)
        for (unsigned x = 0; x < launch.block.x; x++) {
          threadIdx = {x, y, z};
          (*launch.kernel)();
        }
#endif
  }
}

struct Pool {
  pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
  pthread_cond_t begin = PTHREAD_COND_INITIALIZER, end = PTHREAD_COND_INITIALIZER;
  void (*task)(void*) = nullptr;
  void* argument = nullptr;
  unsigned long long round = 0;
  unsigned threads = 0, busy = 0;
  bool started = false;
};
static Pool pool;
static void* serve(void*) {
  unsigned long long seen = 0;
  pthread_mutex_lock(&pool.lock);
  for (;;) {
    while (pool.round == seen) pthread_cond_wait(&pool.begin, &pool.lock);
    seen = pool.round;
    void (*task)(void*) = pool.task;
    void* argument = pool.argument;
    pthread_mutex_unlock(&pool.lock);
    task(argument);
    pthread_mutex_lock(&pool.lock);
    if (--pool.busy == 0) pthread_cond_signal(&pool.end);
  }
}
static void start_pool() {
  cpu_set_t set;
  unsigned hosts = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
  // A process has at most 65530 pieces of memory (vm.max_map_count), and each fiber's stack takes two of them.
  if (hosts > 24) hosts = 24;
  pool.started = true;
  pthread_t thread;
  // Where the limit on threads is reached the caller does the rest alone.
  while (pool.threads + 1 < hosts && pthread_create(&thread, nullptr, serve, nullptr) == 0) pool.threads++;
}
template <class F> static void run(dim3 grid, dim3 block, F kernel) {
  Launch<F> launch{&kernel, grid, block, (unsigned long long)grid.x * grid.y * grid.z, 0};
  if (launch.blocks > 1 && !pool.started) start_pool();
  const bool shared = launch.blocks > 1 && pool.threads > 0;
  if (shared) {
    pthread_mutex_lock(&pool.lock);
    pool.task = work<F>;
    pool.argument = &launch;
    pool.busy = pool.threads;
    pool.round++;
    pthread_cond_broadcast(&pool.begin);
    pthread_mutex_unlock(&pool.lock);
  }
  work<F>(&launch);
  if (shared) {
    pthread_mutex_lock(&pool.lock);
    while (pool.busy != 0) pthread_cond_wait(&pool.end, &pool.lock);
    pthread_mutex_unlock(&pool.lock);
  }
  fflush(stdout);
}
}  // namespace gpubond
