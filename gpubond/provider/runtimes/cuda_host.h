// SPDX-License-Identifier: Apache-2.0
// CUDA C++ on a host: what the class `cpu-sim` compiles a job's source with, by an ordinary C++ compiler.
//
// Each launch runs all threads of a block in one host thread, blocks spread over several. A source without barriers or
// warp functions runs each block as a plain loop; one with them gives every CUDA thread a fiber (ucontext)
// that waits at them. Compile with -ffp-contract=off: a*b+c is then rounded twice, whereas NVRTC contracts it
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
#include <ucontext.h>
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
static inline float __fadd_rn(float a, float b) { return a + b; }
static inline float __fsub_rn(float a, float b) { return a - b; }
static inline float __fmul_rn(float a, float b) { return a * b; }
static inline float __fdiv_rn(float a, float b) { return a / b; }
static inline float __fsqrt_rn(float a) { return sqrtf(a); }
static inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
static inline double __dadd_rn(double a, double b) { return a + b; }
static inline double __dmul_rn(double a, double b) { return a * b; }
static inline double __fma_rn(double a, double b, double c) { return fma(a, b, c); }

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
static inline int __popc(unsigned x) { return __builtin_popcount(x); }
static inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
static inline int __clz(int x) { return x ? __builtin_clz((unsigned)x) : 32; }
static inline int __clzll(long long x) { return x ? __builtin_clzll((unsigned long long)x) : 64; }
static inline int __ffs(int x) { return __builtin_ffs(x); }
static inline int __mul24(int a, int b) { return (int)((unsigned)((a << 8) >> 8) * (unsigned)((b << 8) >> 8)); }
static inline int __mulhi(int a, int b) { return (int)(((long long)a * b) >> 32); }
static inline unsigned __umulhi(unsigned a, unsigned b) { return (unsigned)(((unsigned long long)a * b) >> 32); }
template <class T> static inline T __ldg(const T* p) { return *p; }
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

// Fibers: one for each CUDA thread of the block that runs, all in one host thread.
namespace gpubond {
enum State { READY, AT_BLOCK, AT_WARP, DONE };
struct Fiber {
  ucontext_t context;
  uint3 index;
  State state;
  unsigned mask;
};
struct Block {
  Fiber* fibers = nullptr;
  unsigned capacity = 0, count = 0, current = 0;
  ucontext_t scheduler;
  char* stacks = nullptr;
  unsigned long long* slots = nullptr;
  void (*body)(void*) = nullptr;
  void* argument = nullptr;
};
static thread_local Block block;
static const size_t STACK = 128 << 10, GUARD = 4096;

static inline void fail(const char* what) {
  fflush(stdout);
  fprintf(stderr, "cpu-sim: %s\n", what);
  fflush(stderr);
  _exit(121);  // the runtime's code for an error of a launch
}
static void enter_fiber() {
  block.body(block.argument);
  block.fibers[block.current].state = DONE;
  swapcontext(&block.fibers[block.current].context, &block.scheduler);
}
static __attribute__((noinline)) void wait(State state, unsigned mask) {
  Fiber& own = block.fibers[block.current];
  own.state = state;
  own.mask = mask;
  swapcontext(&own.context, &block.scheduler);
}
static inline unsigned alive_in_warp(unsigned first) {
  unsigned mask = 0;
  for (unsigned lane = 0; lane < 32 && first + lane < block.count; lane++)
    if (block.fibers[first + lane].state != DONE) mask |= 1u << lane;
  return mask;
}
// Lets go on whoever has reached a barrier with everybody else it waits for; whether there was anyone.
static bool release() {
  unsigned alive = 0, at_block = 0;
  for (unsigned i = 0; i < block.count; i++) {
    alive += block.fibers[i].state != DONE;
    at_block += block.fibers[i].state == AT_BLOCK;
  }
  if (alive == at_block) {
    for (unsigned i = 0; i < block.count; i++)
      if (block.fibers[i].state == AT_BLOCK) block.fibers[i].state = READY;
    return alive != 0;
  }
  bool any = false;
  for (unsigned first = 0; first < block.count; first += 32) {
    const unsigned living = alive_in_warp(first);
    for (unsigned lane = 0; lane < 32 && first + lane < block.count; lane++) {
      Fiber& leader = block.fibers[first + lane];
      if (leader.state != AT_WARP) continue;
      const unsigned wanted = leader.mask & living;
      bool all = true;
      for (unsigned other = 0; other < 32; other++)
        if (wanted >> other & 1u) {
          const Fiber& f = block.fibers[first + other];
          all = all && f.state == AT_WARP && f.mask == leader.mask;
        }
      if (!all) continue;
      const unsigned mask = leader.mask;
      for (unsigned other = 0; other < 32; other++)
        if (wanted >> other & 1u && block.fibers[first + other].mask == mask)
          block.fibers[first + other].state = READY;
      any = true;
    }
  }
  return any;
}
static inline uint3 index_of(unsigned linear) {
  return {linear % blockDim.x, linear / blockDim.x % blockDim.y, linear / (blockDim.x * blockDim.y)};
}
static void run_fibers(unsigned count) {
  if (count > block.capacity) {
    if (block.stacks != nullptr) munmap(block.stacks, block.capacity * (STACK + GUARD));
    free(block.fibers);
    free(block.slots);
    const size_t bytes = count * (STACK + GUARD);
    block.stacks = (char*)mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    block.fibers = (Fiber*)calloc(count, sizeof(Fiber));
    block.slots = (unsigned long long*)calloc(count, sizeof(unsigned long long));
    if (block.stacks == MAP_FAILED || block.fibers == nullptr || block.slots == nullptr) fail("out of memory for fibers");
    for (unsigned i = 0; i < count; i++) mprotect(block.stacks + i * (STACK + GUARD), GUARD, PROT_NONE);
    block.capacity = count;
  }
  block.count = count;
  for (unsigned i = 0; i < count; i++) {
    Fiber& f = block.fibers[i];
    getcontext(&f.context);
    f.context.uc_stack.ss_sp = block.stacks + i * (STACK + GUARD) + GUARD;
    f.context.uc_stack.ss_size = STACK;
    f.context.uc_link = nullptr;
    f.index = index_of(i);
    f.state = READY;
    makecontext(&f.context, enter_fiber, 0);
  }
  unsigned done = 0;
  while (done < count) {
    bool ran = false;
    for (unsigned i = 0; i < count; i++) {
      if (block.fibers[i].state != READY) continue;
      ran = true;
      block.current = i;
      threadIdx = block.fibers[i].index;
      swapcontext(&block.scheduler, &block.fibers[i].context);
      done += block.fibers[i].state == DONE;
    }
    if (done < count && !release() && !ran) fail("threads wait at different barriers, for ever (divergent code)");
  }
}
}  // namespace gpubond

#ifdef GPUBOND_FIBERS
namespace gpubond {
static inline unsigned lane() { return block.current & 31u; }
static inline unsigned first() { return block.current & ~31u; }
// What lane `source` of the warp holds as `value`, or the own value where there is no such lane in it.
template <class T> static inline T exchange(unsigned mask, T value, int source) {
  static_assert(sizeof(T) <= 8, "warp functions take values of at most 8 bytes");
  unsigned long long raw = 0;
  memcpy(&raw, &value, sizeof value);
  block.slots[block.current] = raw;
  wait(AT_WARP, mask);
  if (source >= 0 && source < 32 && first() + source < block.count) raw = block.slots[first() + source];
  wait(AT_WARP, mask);
  memcpy(&value, &raw, sizeof value);
  return value;
}
static inline int votes() {
  int sum = 0;
  for (unsigned i = 0; i < block.count; i++)
    if (block.fibers[i].state != DONE && block.slots[i]) sum++;
  return sum;
}
static inline int count_votes(int predicate) {
  block.slots[block.current] = predicate != 0;
  wait(AT_BLOCK, 0);
  const int sum = votes();
  wait(AT_BLOCK, 0);
  return sum;
}
static inline int living() {
  int sum = 0;
  for (unsigned i = 0; i < block.count; i++) sum += block.fibers[i].state != DONE;
  return sum;
}
}  // namespace gpubond
static inline void __syncthreads() { gpubond::wait(gpubond::AT_BLOCK, 0); }
static inline int __syncthreads_count(int p) { return gpubond::count_votes(p); }
static inline int __syncthreads_or(int p) { return gpubond::count_votes(p) != 0; }
static inline int __syncthreads_and(int p) { return gpubond::count_votes(!p) == 0; }
static inline void __syncwarp(unsigned mask = 0xffffffffu) { gpubond::wait(gpubond::AT_WARP, mask); }
static inline unsigned __activemask() { return gpubond::alive_in_warp(gpubond::first()); }
static inline unsigned __ballot_sync(unsigned mask, int p) {
  gpubond::block.slots[gpubond::block.current] = p != 0;
  gpubond::wait(gpubond::AT_WARP, mask);
  unsigned result = 0;
  const unsigned members = mask & gpubond::alive_in_warp(gpubond::first());
  for (unsigned i = 0; i < 32; i++)
    if (members >> i & 1u && gpubond::block.slots[gpubond::first() + i]) result |= 1u << i;
  gpubond::wait(gpubond::AT_WARP, mask);
  return result;
}
static inline int __any_sync(unsigned mask, int p) { return __ballot_sync(mask, p) != 0; }
static inline int __all_sync(unsigned mask, int p) { return __ballot_sync(mask, !p) == 0; }
template <class T> static inline T __shfl_sync(unsigned mask, T v, int source, int width = 32) {
  const int own = gpubond::lane();
  return gpubond::exchange(mask, v, (own & ~(width - 1)) + (source & (width - 1)));
}
template <class T> static inline T __shfl_up_sync(unsigned mask, T v, unsigned delta, int width = 32) {
  const int own = gpubond::lane(), source = own - (int)delta;
  return gpubond::exchange(mask, v, source < (own & ~(width - 1)) ? own : source);
}
template <class T> static inline T __shfl_down_sync(unsigned mask, T v, unsigned delta, int width = 32) {
  const int own = gpubond::lane(), source = own + (int)delta;
  return gpubond::exchange(mask, v, source > (own | (width - 1)) ? own : source);
}
template <class T> static inline T __shfl_xor_sync(unsigned mask, T v, int lanes, int width = 32) {
  const int own = gpubond::lane(), source = own ^ lanes;
  return gpubond::exchange(mask, v, source > (own | (width - 1)) ? own : source);
}
#endif

// Launches: blocks are handed to host threads one by one.
namespace gpubond {
template <class F> struct Launch {
  const F* kernel;
  dim3 grid, block;
  unsigned long long blocks;
  unsigned long long next;
};
template <class F> static void call(void* argument) { (*(const F*)argument)(); }
template <class F> static void* work(void* argument) {
  Launch<F>& launch = *(Launch<F>*)argument;
  gridDim = launch.grid;
  blockDim = launch.block;
  const unsigned threads = launch.block.x * launch.block.y * launch.block.z;
  for (;;) {
    const unsigned long long b = __atomic_fetch_add(&launch.next, 1ull, __ATOMIC_RELAXED);
    if (b >= launch.blocks) return nullptr;
    blockIdx = {(unsigned)(b % launch.grid.x), (unsigned)(b / launch.grid.x % launch.grid.y),
                (unsigned)(b / ((unsigned long long)launch.grid.x * launch.grid.y))};
#ifdef GPUBOND_FIBERS
    gpubond::block.body = call<F>;
    gpubond::block.argument = (void*)launch.kernel;
    run_fibers(threads);
#else
    (void)threads;
    for (unsigned z = 0; z < launch.block.z; z++)
      for (unsigned y = 0; y < launch.block.y; y++)
        for (unsigned x = 0; x < launch.block.x; x++) {
          threadIdx = {x, y, z};
          (*launch.kernel)();
        }
#endif
  }
}
template <class F> static void run(dim3 grid, dim3 block, F kernel) {
  Launch<F> launch{&kernel, grid, block, (unsigned long long)grid.x * grid.y * grid.z, 0};
  cpu_set_t set;
  unsigned hosts = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
  if (hosts > 64) hosts = 64;
  if (hosts > launch.blocks) hosts = (unsigned)launch.blocks;
  pthread_t threads[64];
  unsigned started = 0;
  // Where the limit on threads is reached the caller does the rest alone.
  while (started + 1 < hosts && pthread_create(&threads[started], nullptr, work<F>, &launch) == 0) started++;
  work<F>(&launch);
  for (unsigned i = 0; i < started; i++) pthread_join(threads[i], nullptr);
  fflush(stdout);
}
}  // namespace gpubond
