// SPDX-License-Identifier: Apache-2.0
// Fibers: one for each CUDA thread of the block that runs, all in one host thread. A fiber runs until it waits at a
// barrier or a warp function; whoever comes last lets the others go on.
//
// They outlive their block and begin anew with the next one. Part of cuda_host.h.
#pragma once

#if !defined(__x86_64__) || defined(GPUBOND_UCONTEXT)
#include <ucontext.h>
#endif

namespace gpubond {
static const size_t STACK = 128 << 10, GUARD = 4096;
static const unsigned MOST = 1024;  // threads in a block
static void live();

#if defined(__x86_64__) && !defined(GPUBOND_UCONTEXT)
// swapcontext asks the kernel for the signal mask each time, which is a hundred times as slow.
typedef void* Context;
extern "C" __attribute__((visibility("hidden"))) void gpubond_switch(void** from, void* to);
asm(R"(
.text
.p2align 4
.hidden gpubond_switch
.globl gpubond_switch
.type gpubond_switch, @function
gpubond_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size gpubond_switch, .-gpubond_switch
)");
static inline void jump(Context& from, Context& to) { gpubond_switch(&from, to); }
static void prepare(Context& context, char* stack, size_t bytes) {
  void** top = (void**)((uintptr_t)(stack + bytes) & ~(uintptr_t)15);
  *--top = nullptr;  // where a return address would lie: the stack is aligned as after a call
  *--top = (void*)live;
  for (int i = 0; i < 6; i++) *--top = nullptr;
  context = top;
}
#else
typedef ucontext_t Context;
static inline void jump(Context& from, Context& to) { swapcontext(&from, &to); }
static void prepare(Context& context, char* stack, size_t bytes) {
  getcontext(&context);
  context.uc_stack.ss_sp = stack;
  context.uc_stack.ss_size = bytes;
  context.uc_link = nullptr;
  makecontext(&context, live, 0);
}
#endif

enum State : unsigned char { READY, AT_BLOCK, AT_WARP, DONE };
struct Fiber {
  Context context;
  uint3 index;
  unsigned mask;
};
struct Warp {
  unsigned alive, waiting;
};
struct Block {
  Fiber* fibers = nullptr;
  State* states = nullptr;
  Warp* warps = nullptr;
  unsigned long long* slots = nullptr;
  unsigned capacity = 0, count = 0, current = 0;
  unsigned alive = 0, at_block = 0;
  int votes = 0, result = 0;
  dim3 shape;
  Context host;
  void (*body)(void*) = nullptr;
  void* argument = nullptr;
};
static thread_local Block block;

static inline unsigned lane() { return block.current & 31u; }
static inline unsigned first() { return block.current & ~31u; }

// Lets another fiber run until this one can go on.
static void give_way() {
  const unsigned own = block.current;
  unsigned other = own;
  do {
    if (++other >= block.count) other = 0;
    if (block.states[other] != READY) continue;
    if (other == own) return;
    block.current = other;
    jump(block.fibers[own].context, block.fibers[other].context);
    threadIdx = block.fibers[own].index;
    return;
  } while (other != own);
  fail("threads wait at different barriers, for ever (divergent code)");
}
static inline void release_block() {
  for (unsigned i = 0; i < block.count; i++)
    if (block.states[i] == AT_BLOCK) block.states[i] = READY;
  block.at_block = 0;
  block.result = block.votes;
  block.votes = 0;
}
static inline void release_warp(unsigned begin, unsigned mask) {
  Warp& warp = block.warps[begin / 32];
  const unsigned wanted = mask & warp.alive;
  if ((warp.waiting & wanted) != wanted) return;
  for (unsigned rest = wanted; rest != 0; rest &= rest - 1)
    if (block.fibers[begin + __builtin_ctz(rest)].mask != mask) return;
  for (unsigned rest = wanted; rest != 0; rest &= rest - 1) block.states[begin + __builtin_ctz(rest)] = READY;
  warp.waiting &= ~wanted;
}
static __attribute__((noinline)) int wait_block(int vote) {
  block.states[block.current] = AT_BLOCK;
  block.votes += vote != 0;
  if (++block.at_block == block.alive)
    release_block();
  else
    give_way();
  return block.result;
}
static __attribute__((noinline)) void wait_warp(unsigned mask) {
  if (!(mask >> lane() & 1u)) fail("a thread calls a warp function with a mask that it is not in");
  block.fibers[block.current].mask = mask;
  block.states[block.current] = AT_WARP;
  block.warps[block.current / 32].waiting |= 1u << lane();
  release_warp(first(), mask);
  if (block.states[block.current] != READY) give_way();
}
// What a fiber does all its life: the kernel, once for each block.
static void live() {
  for (;;) {
    const unsigned own = block.current;
    threadIdx = block.fibers[own].index;
    block.body(block.argument);
    block.states[own] = DONE;
    block.warps[own / 32].alive &= ~(1u << (own & 31u));
    if (--block.alive == 0) {
      jump(block.fibers[own].context, block.host);
      continue;
    }
    // Others may have waited for nobody but this one.
    if (block.at_block == block.alive) release_block();
    for (unsigned rest = block.warps[own / 32].waiting; rest != 0; rest &= rest - 1)
      release_warp(own & ~31u, block.fibers[(own & ~31u) + __builtin_ctz(rest)].mask);
    give_way();
  }
}
static void make_fibers(unsigned count) {
  if (block.fibers == nullptr) {
    block.fibers = (Fiber*)calloc(MOST, sizeof(Fiber));
    block.states = (State*)calloc(MOST, sizeof(State));
    block.warps = (Warp*)calloc(MOST / 32, sizeof(Warp));
    block.slots = (unsigned long long*)calloc(MOST, sizeof(unsigned long long));
  }
  const size_t each = STACK + GUARD;
  char* stacks = (char*)mmap(nullptr, (count - block.capacity) * each, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  bool made = stacks != MAP_FAILED && block.fibers && block.states && block.warps && block.slots;
  for (; made && block.capacity < count; block.capacity++, stacks += each) {
    made = mprotect(stacks, GUARD, PROT_NONE) == 0;
    // Stacks that begin at different distances from a page's end do not compete for the same lines of the cache.
    prepare(block.fibers[block.capacity].context, stacks + GUARD, STACK - block.capacity % 64 * 64);
  }
  if (!made) fail("out of memory for the threads of a block");
}
static void run_fibers(dim3 shape, void (*body)(void*), void* argument) {
  const unsigned count = shape.x * shape.y * shape.z;
  if (count > block.capacity) make_fibers(count);
  if (shape.x != block.shape.x || shape.y != block.shape.y || count != block.count)
    for (unsigned i = 0; i < count; i++)
      block.fibers[i].index = {i % shape.x, i / shape.x % shape.y, i / (shape.x * shape.y)};
  block.shape = shape;
  block.count = count;
  block.body = body;
  block.argument = argument;
  for (unsigned i = 0; i < count; i += 32) block.warps[i / 32] = {count - i >= 32 ? ~0u : (1u << (count - i)) - 1, 0};
  memset(block.states, READY, count);
  block.alive = count;
  block.at_block = 0;
  block.votes = 0;
  block.current = 0;
  jump(block.host, block.fibers[0].context);
}

// What lane `source` of the warp holds as `value`, or the own value where there is no such lane in it.
template <class T> static inline T exchange(unsigned mask, T value, int source) {
  static_assert(sizeof(T) <= 8, "warp functions take values of at most 8 bytes");
  unsigned long long raw = 0;
  memcpy(&raw, &value, sizeof value);
  block.slots[block.current] = raw;
  wait_warp(mask);
  if (source >= 0 && source < 32 && first() + source < block.count) raw = block.slots[first() + source];
  wait_warp(mask);
  memcpy(&value, &raw, sizeof value);
  return value;
}
// Calls use(lane, value) for every living lane of the mask.
template <class T, class Use> static inline void for_each(unsigned mask, T value, Use use) {
  static_assert(sizeof(T) <= 8, "warp functions take values of at most 8 bytes");
  unsigned long long raw = 0;
  memcpy(&raw, &value, sizeof value);
  block.slots[block.current] = raw;
  wait_warp(mask);
  for (unsigned rest = mask & block.warps[first() / 32].alive; rest != 0; rest &= rest - 1) {
    const unsigned other = __builtin_ctz(rest);
    T theirs;
    memcpy(&theirs, &block.slots[first() + other], sizeof theirs);
    use(other, theirs);
  }
  wait_warp(mask);
}
}  // namespace gpubond

static inline void __syncthreads() { gpubond::wait_block(0); }
static inline int __syncthreads_count(int p) { return gpubond::wait_block(p); }
static inline int __syncthreads_or(int p) { return gpubond::wait_block(p) != 0; }
static inline int __syncthreads_and(int p) { return gpubond::wait_block(!p) == 0; }
static inline void __syncwarp(unsigned mask = 0xffffffffu) { gpubond::wait_warp(mask); }
// Lets others on: whoever waits for a flag in memory asks for this in between.
static inline void __nanosleep(unsigned) { gpubond::give_way(); }
static inline unsigned __activemask() { return gpubond::block.warps[gpubond::first() / 32].alive; }
static inline unsigned __ballot_sync(unsigned mask, int p) {
  unsigned result = 0;
  gpubond::for_each(mask, p, [&](unsigned lane, int theirs) { result |= (theirs != 0 ? 1u : 0u) << lane; });
  return result;
}
static inline int __any_sync(unsigned mask, int p) { return __ballot_sync(mask, p) != 0; }
static inline int __all_sync(unsigned mask, int p) { return __ballot_sync(mask, !p) == 0; }
template <class T> static inline unsigned __match_any_sync(unsigned mask, T value) {
  unsigned result = 0;
  gpubond::for_each(mask, value, [&](unsigned lane, T theirs) { result |= (theirs == value ? 1u : 0u) << lane; });
  return result;
}
#define GPUBOND_REDUCE(name, T, start, expression)                                     \
  static inline T __reduce_##name##_sync(unsigned mask, T value) {                     \
    T sum = start;                                                                     \
    gpubond::for_each(mask, value, [&](unsigned, T theirs) { sum = expression; });     \
    return sum;                                                                        \
  }
GPUBOND_REDUCE(add, int, 0, (int)((unsigned)sum + (unsigned)theirs))
GPUBOND_REDUCE(add, unsigned, 0, sum + theirs)
GPUBOND_REDUCE(min, int, value, theirs < sum ? theirs : sum)
GPUBOND_REDUCE(min, unsigned, value, theirs < sum ? theirs : sum)
GPUBOND_REDUCE(max, int, value, sum < theirs ? theirs : sum)
GPUBOND_REDUCE(max, unsigned, value, sum < theirs ? theirs : sum)
GPUBOND_REDUCE(and, unsigned, value, sum & theirs)
GPUBOND_REDUCE(or, unsigned, value, sum | theirs)
GPUBOND_REDUCE(xor, unsigned, 0, sum ^ theirs)
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
