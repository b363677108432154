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

static struct {
  pthread_mutex_t busy;  // held for a whole step
  pthread_mutex_t door;  // guards sleeping
  pthread_cond_t called;
  int started;            // threads that exist beside the callers
  int registered;         // whether the handler of forks is
  _Atomic uint64_t turn;  // goes up with each piece of work
  _Atomic int sleeping;
  _Atomic int unfinished;
  uint64_t begin[MAX_THREADS];  // the turn that each thread starts after
  int wanted;  // threads that the present work is for, the caller's included
  Work *work;
  void *context;
} pool = {.busy = PTHREAD_MUTEX_INITIALIZER, .door = PTHREAD_MUTEX_INITIALIZER, .called = PTHREAD_COND_INITIALIZER};

static void pool_after_fork(void) {
  pthread_mutex_init(&pool.busy, NULL);
  pthread_mutex_init(&pool.door, NULL);
  pthread_cond_init(&pool.called, NULL);
  pool.started = 0;
  atomic_store(&pool.turn, 0);
  atomic_store(&pool.sleeping, 0);
  atomic_store(&pool.unfinished, 0);
}

static void *pool_thread(void *number) {
  int thread = (int)(intptr_t)number;
  uint64_t seen = pool.begin[thread];
  for (;;) {
    uint64_t turn = seen;
    for (int spin = 0; spin < SPINS && (turn = atomic_load_explicit(&pool.turn, memory_order_acquire)) == seen; spin++)
      pool_pause();
    if (turn == seen) {
      pthread_mutex_lock(&pool.door);
      atomic_fetch_add(&pool.sleeping, 1);
      while ((turn = atomic_load(&pool.turn)) == seen) pthread_cond_wait(&pool.called, &pool.door);
      atomic_fetch_sub(&pool.sleeping, 1);
      pthread_mutex_unlock(&pool.door);
    }
    seen = turn;
    // Every thread answers every call, those that are not wanted too: so nobody can sleep through two of them.
    if (thread < pool.wanted) {
      uint64_t state = float_state_enter();
      pool.work(pool.context, thread);
      float_state_leave(state);
    }
    atomic_fetch_sub_explicit(&pool.unfinished, 1, memory_order_release);
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
      pool.begin[pool.started + 1] = atomic_load(&pool.turn);
      if (pthread_create(&made, NULL, pool_thread, (void *)(intptr_t)(pool.started + 1)) != 0) break;
      pthread_detach(made);
      pool.started++;
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
  }
  return pool.started + 1 < threads ? pool.started + 1 : threads;
}

// Does work(context, 0 .. threads - 1), the first one here. The caller holds the lock and has set the float state.
static void pool_run(int threads, Work *work, void *context) {
  if (threads <= 1) {
    work(context, 0);
    return;
  }
  pool.work = work;
  pool.context = context;
  pool.wanted = threads;
  atomic_store_explicit(&pool.unfinished, pool.started, memory_order_relaxed);
  atomic_fetch_add(&pool.turn, 1);
  if (atomic_load(&pool.sleeping) > 0) {
    pthread_mutex_lock(&pool.door);
    pthread_cond_broadcast(&pool.called);
    pthread_mutex_unlock(&pool.door);
  }
  work(context, 0);
  for (int spin = 0; atomic_load_explicit(&pool.unfinished, memory_order_acquire) > 0; spin++)
    if (spin < SPINS)
      pool_pause();
    else
      sched_yield();
}

#endif
