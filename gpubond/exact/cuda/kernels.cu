// SPDX-License-Identifier: Apache-2.0
// Every operation of exact programs as kernels. exact_core.h says what a scalar operation is; here is only who does what
// when. Every parameter is 8 bytes, a pointer or a whole number, so that a launch is a row of words. Numbers of elements
// are below 2^31, and no kernel is launched for an output without elements.
#include "exact_core.h"
#include "matmul.h"
#include "reduce.h"

typedef unsigned long long u64;

// The element of this thread; a grid never has more threads than 2^31 + 256.
#define EXACT_ELEMENT(i, count)                                  \
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;      \
  if (i >= (count)) return

#define EXACT_ONE(name)                                                                     \
  extern "C" __global__ void op_##name(const float* a, float* out, u64 count) {                  \
    EXACT_ELEMENT(i, count);                                                                \
    out[i] = exact_##name(a[i]);                                                            \
  }
#define EXACT_TWO(name)                                                                     \
  extern "C" __global__ void op_##name(const float* a, const float* b, float* out, u64 count) {  \
    EXACT_ELEMENT(i, count);                                                                \
    out[i] = exact_##name(a[i], b[i]);                                                      \
  }
#define EXACT_THREE(name)                                                                                   \
  extern "C" __global__ void op_##name(const float* a, const float* b, const float* c, float* out, u64 count) {  \
    EXACT_ELEMENT(i, count);                                                                                \
    out[i] = exact_##name(a[i], b[i], c[i]);                                                                \
  }
EXACT_TWO(add)
EXACT_TWO(sub)
EXACT_TWO(mul)
EXACT_TWO(div)
EXACT_TWO(max)
EXACT_TWO(gt)
EXACT_THREE(fma)
EXACT_THREE(select)
EXACT_ONE(sqrt)
EXACT_ONE(neg)
EXACT_ONE(exp)
EXACT_ONE(log)
EXACT_ONE(bf16)

extern "C" __global__ void fill(float* out, u64 bits, u64 count) {
  EXACT_ELEMENT(i, count);
  out[i] = exact_float((unsigned)bits);
}

// One thread makes the four elements of one counter. `step` comes with each launch.
extern "C" __global__ void uniform(float* out, u64 key0, u64 key1, u64 op, u64 count, u64 step) {
  EXACT_ELEMENT(group, (count + 3u) / 4u);
  unsigned words[4] = {group, (unsigned)op, (unsigned)step, (unsigned)(step >> 32)};
  exact_philox((unsigned)key0, (unsigned)key1, words);
#pragma unroll
  for (unsigned i = 0; i < 4u; i++)
    if (group * 4u + i < count) out[group * 4u + i] = exact_unit(words[i]);
}

// dimN, strideN: of the output's last four dimensions, the first ones filled up with 1 and 0.
extern "C" __global__ void view(const float* in, float* out, u64 count, u64 offset, u64 dim1, u64 dim2, u64 dim3,
                                u64 stride0, u64 stride1, u64 stride2, u64 stride3) {
  EXACT_ELEMENT(i, count);
  unsigned rest = i, at = (unsigned)offset;
  at += rest % (unsigned)dim3 * (unsigned)stride3;
  rest /= (unsigned)dim3;
  at += rest % (unsigned)dim2 * (unsigned)stride2;
  rest /= (unsigned)dim2;
  at += rest % (unsigned)dim1 * (unsigned)stride1 + rest / (unsigned)dim1 * (unsigned)stride0;
  out[i] = in[at];
}

#define TURN 32

// A view whose last dimension walks with `stride3` and whose dimension before it walks element by element: rows are read
// and written whole, through shared memory. grid: the tiles of the last two dimensions, for each place in the first two.
extern "C" __global__ void view_turned(const float* in, float* out, u64 offset, u64 dim1, u64 dim2, u64 dim3,
                                       u64 stride0, u64 stride1, u64 stride3) {
  __shared__ float tile[TURN][TURN + 1];
  const unsigned across = ((unsigned)dim3 + TURN - 1u) / TURN;
  const unsigned tiles = ((unsigned)dim2 + TURN - 1u) / TURN * across;
  const unsigned plane = blockIdx.x / tiles, tile_at = blockIdx.x % tiles;
  const unsigned row = tile_at / across * TURN, column = tile_at % across * TURN;
  const unsigned lane = threadIdx.x % TURN, begin = threadIdx.x / TURN, step = blockDim.x / TURN;
  in += offset + (u64)(plane / (unsigned)dim1) * stride0 + (u64)(plane % (unsigned)dim1) * stride1;
  out += (u64)plane * dim2 * dim3;
  for (unsigned i = begin; i < TURN; i += step)
    if (row + lane < dim2 && column + i < dim3) tile[i][lane] = in[(column + i) * stride3 + row + lane];
  __syncthreads();
  for (unsigned i = begin; i < TURN; i += step)
    if (row + i < dim2 && column + lane < dim3) out[(row + i) * dim3 + column + lane] = tile[lane][i];
}

// left, right: elements of one row of each, from the axis on.
extern "C" __global__ void concat(const float* a, const float* b, float* out, u64 left, u64 right, u64 count) {
  EXACT_ELEMENT(i, count);
  const unsigned both = (unsigned)(left + right), row = i / both, at = i % both;
  out[i] = at < left ? a[row * left + at] : b[row * right + at - left];
}

extern "C" __global__ void gather(const float* table, const float* indices, float* out, u64 rows, u64 width,
                                  u64 count) {
  EXACT_ELEMENT(i, count);
  const int row = exact_row(indices[i / (unsigned)width], (unsigned)rows);
  out[i] = row < 0 ? 0.0f : table[(u64)row * width + i % (unsigned)width];
}
