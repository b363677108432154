// SPDX-License-Identifier: Apache-2.0
// SUM and ROWMAX: one thread makes one consensus block of one row, in order; `join` then takes a row's blocks in order.
#pragma once

struct Sum {
  static __device__ __forceinline__ float identity() { return 0.0f; }
  static __device__ __forceinline__ float term(float total, float x) { return exact_add(x, total); }
  static __device__ __forceinline__ float join(float total, float block) { return exact_add(total, block); }
};

struct Maximum {
  static __device__ __forceinline__ float identity() { return exact_float(0xff800000u); }
  static __device__ __forceinline__ float term(float most, float x) { return exact_max(most, x); }
  static __device__ __forceinline__ float join(float most, float block) { return exact_max(most, block); }
};

#define REDUCE_WARPS 4

// Chain c is block c / rows of row c % rows. A warp makes 32 of them at once, and carries 32 terms of each through
// shared memory, so that it reads whole lines.
template <class Of>
static __device__ __forceinline__ void reduce(const float* in, float* out, unsigned rows, unsigned n,
                                              unsigned long long chains) {
  __shared__ float shared[REDUCE_WARPS][32][33];
  const unsigned warp = threadIdx.x / 32u, lane = threadIdx.x % 32u;
  float(*const part)[33] = shared[warp];
  const unsigned long long first = (blockIdx.x * (unsigned long long)REDUCE_WARPS + warp) * 32u;
  if (first >= chains) return;
  const unsigned long long chain = min(first + lane, chains - 1u);
  const unsigned begin = (unsigned)(chain / rows) * EXACT_BLOCK;
  const unsigned long long from = chain % rows * n + begin;
  const unsigned count = min(n - begin, (unsigned)EXACT_BLOCK);
  float total = Of::identity();
  for (unsigned at = 0; at < EXACT_BLOCK; at += 32u) {
    if (!__any_sync(0xffffffffu, at < count)) break;
    for (int other = 0; other < 32; other++) {
      const unsigned long long place = __shfl_sync(0xffffffffu, from, other) + at + lane;
      const unsigned left = __shfl_sync(0xffffffffu, count, other);
      part[other][lane] = at + lane < left ? in[place] : 0.0f;
    }
    __syncwarp();
    for (unsigned p = 0; p < 32u && at + p < count; p++) total = Of::term(total, part[lane][p]);
    __syncwarp();
  }
  if (first + lane < chains) out[first + lane] = total;
}

// blocks: at least 1; layer: elements from one block's sums to the next one's.
template <class Of>
static __device__ __forceinline__ void join(const float* sums, float* out, unsigned long long count,
                                            unsigned long long blocks) {
  const unsigned long long i = blockIdx.x * (unsigned long long)blockDim.x + threadIdx.x;
  if (i >= count) return;
  float total = sums[i];
#pragma unroll 8
  for (unsigned long long block = 1; block < blocks; block++) total = Of::join(total, sums[block * count + i]);
  out[i] = total;
}

#define EXACT_REDUCTION(name, Of)                                                                             \
  extern "C" __global__ void __launch_bounds__(REDUCE_WARPS * 32)                                             \
      reduce_##name(const float* in, float* out, unsigned long long rows, unsigned long long n,               \
                    unsigned long long chains) {                                                              \
    reduce<Of>(in, out, (unsigned)rows, (unsigned)n, chains);                                                 \
  }                                                                                                           \
  extern "C" __global__ void join_##name(const float* sums, float* out, unsigned long long count,             \
                                         unsigned long long blocks) {                                         \
    join<Of>(sums, out, count, blocks);                                                                       \
  }
EXACT_REDUCTION(sum, Sum)
EXACT_REDUCTION(maximum, Maximum)
