// SPDX-License-Identifier: Apache-2.0
// Threads that wait for work, and the floating-point state that every piece of work runs in.
//
// One pool for the process; whoever wants it takes the lock for a whole step. After a fork the child starts anew.
#ifndef GPUBOND_EXACT_POOL_H
#define GPUBOND_EXACT_POOL_H

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

#define MAX_THREADS 256
// Looks at the door before going to sleep: some 50 microseconds.
#define SPINS 1500

#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#define pool_pause() _mm_pause()
#elif defined(__aarch64__)
#define pool_pause() __asm__ __volatile__("yield")
#else
#define pool_pause() ((void)0)
#endif

// ---- Floating-point state: round to nearest, keep subnormals, no traps ----

static inline uint64_t float_state_enter(void) {
#if defined(__x86_64__) || defined(__SSE__)
  uint32_t old = _mm_getcsr();
  _mm_setcsr(0x1f80);
  return old;
#elif defined(__aarch64__)
  uint64_t old, plain = 0;
  __asm__ __volatile__("mrs %0, fpcr" : "=r"(old));
  __asm__ __volatile__("msr fpcr, %0" : : "r"(plain) : "memory");
  return old;
#else
  return 0;
#endif
}

static inline void float_state_leave(uint64_t old) {
#if defined(__x86_64__) || defined(__SSE__)
  _mm_setcsr((uint32_t)old);
#elif defined(__aarch64__)
  __asm__ __volatile__("msr fpcr, %0" : : "r"(old) : "memory");
#else
  (void)old;
#endif
}

// ---- Pool ----

typedef void Work(void *context, int thread);

// The gate: from the lowest bit 16 for how many joined, 1 for open, 15 for the number of threads called (the caller
// included), 32 for the turn. Who is late and finds it shut is not missed: the others take all parts.
#define GATE_OPEN (1ull << 16)
#define GATE_JOINED(gate) ((gate) & 0xffff)
#define GATE_CALLED(gate) ((int)((gate) >> 17 & 0x7fff))
#define GATE_TURN(gate) ((gate) >> 32)

static struct {
  pthread_mutex_t busy;  // held for a whole step
  pthread_mutex_t door;  // guards sleeping
  pthread_cond_t called;
  int started;     // threads that exist beside the callers
  int registered;  // whether the handler of forks is
  _Atomic uint64_t gate;
  _Atomic int sleeping;
  _Atomic uint64_t left;  // of those that joined, how many are done
  Work *work;
  void *context;
} pool = {.busy = PTHREAD_MUTEX_INITIALIZER, .door = PTHREAD_MUTEX_INITIALIZER, .called = PTHREAD_COND_INITIALIZER};

static void pool_after_fork(void) {
  pthread_mutex_init(&pool.busy, NULL);
  pthread_mutex_init(&pool.door, NULL);
  pthread_cond_init(&pool.called, NULL);
  pool.started = 0;
  atomic_store(&pool.gate, 0);
  atomic_store(&pool.sleeping, 0);
  atomic_store(&pool.left, 0);
}

// Whether a gate calls this thread to a turn that it has not taken.
static int pool_calls(uint64_t gate, int thread, uint64_t seen) {
  return (gate & GATE_OPEN) && thread < GATE_CALLED(gate) && GATE_TURN(gate) != seen;
}

static void *pool_thread(void *number) {
  int thread = (int)(intptr_t)number;
  uint64_t seen = 0;
  for (;;) {
    uint64_t gate = 0;
    for (int spin = 0; spin < SPINS; spin++) {
      gate = atomic_load_explicit(&pool.gate, memory_order_acquire);
      if (pool_calls(gate, thread, seen)) break;
      pool_pause();
    }
    if (!pool_calls(gate, thread, seen)) {
      pthread_mutex_lock(&pool.door);
      atomic_fetch_add(&pool.sleeping, 1);
      while (!pool_calls(gate = atomic_load(&pool.gate), thread, seen)) pthread_cond_wait(&pool.called, &pool.door);
      atomic_fetch_sub(&pool.sleeping, 1);
      pthread_mutex_unlock(&pool.door);
    }
    while (pool_calls(gate, thread, seen))
      if (atomic_compare_exchange_weak(&pool.gate, &gate, gate + 1)) {
        seen = GATE_TURN(gate);
        uint64_t state = float_state_enter();
        pool.work(pool.context, thread);
        float_state_leave(state);
        atomic_fetch_add_explicit(&pool.left, 1, memory_order_release);
        break;
      }
  }
  return NULL;
}

// Starts what is missing. Returns how many threads there are, the caller's included: fewer than asked for if the system
// gives no more.
static int pool_start(int threads) {
  if (threads > MAX_THREADS) threads = MAX_THREADS;
  if (!pool.registered) {
    pthread_atfork(NULL, NULL, pool_after_fork);
    pool.registered = 1;
  }
  if (pool.started < threads - 1) {
    sigset_t all, old;
    sigfillset(&all);
    // Signals belong to the program's own threads.
    pthread_sigmask(SIG_SETMASK, &all, &old);
    while (pool.started < threads - 1) {
      pthread_t made;
      if (pthread_create(&made, NULL, pool_thread, (void *)(intptr_t)(pool.started + 1)) != 0) break;
      pthread_detach(made);
      pool.started++;
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
  }
  return pool.started + 1 < threads ? pool.started + 1 : threads;
}

// Has work(context, thread) done by this thread and by those of the others that come in time; each must go on until
// nothing is left to do. The caller holds the lock and has set the float state.
static void pool_run(int threads, Work *work, void *context) {
  if (threads <= 1) {
    work(context, 0);
    return;
  }
  pool.work = work;
  pool.context = context;
  atomic_store(&pool.left, 0);
  // Turns begin at 1: a new thread has seen turn 0.
  uint64_t turn = (GATE_TURN(atomic_load(&pool.gate)) + 1) & 0xffffffff;
  atomic_store(&pool.gate, turn << 32 | (uint64_t)threads << 17 | GATE_OPEN);
  if (atomic_load(&pool.sleeping) > 0) {
    pthread_mutex_lock(&pool.door);
    pthread_cond_broadcast(&pool.called);
    pthread_mutex_unlock(&pool.door);
  }
  work(context, 0);
  uint64_t joined = GATE_JOINED(atomic_fetch_and(&pool.gate, ~GATE_OPEN));
  for (int spin = 0; atomic_load_explicit(&pool.left, memory_order_acquire) < joined; spin++)
    if (spin < SPINS)
      pool_pause();
    else
      sched_yield();
}

#endif
