// SPDX-License-Identifier: Apache-2.0
// c = a * b by tiles in shared memory: a block of 32 x 8 threads computes 32 x 32 elements, four a thread.
//
// Each element is one chain of fused multiply-adds in the order of k, each rounded once. So the result is the same bit
// for bit on a GPU, on cpu-sim and in the chain written out by hand, whatever the shapes.

constexpr int TILE = 32;
constexpr int ROWS = 8;
constexpr int EACH = TILE / ROWS;

// a is m x k, b is k x n, c is m x n, all in C order.
extern "C" __global__ void __launch_bounds__(TILE * ROWS)
matmul(const float* __restrict__ a, const float* __restrict__ b, float* __restrict__ c, int m, int n, int k) {
  __shared__ float left[TILE][TILE + 1];
  __shared__ float right[TILE][TILE];
  const int x = threadIdx.x, y = threadIdx.y;
  const int column = blockIdx.x * TILE + x, row = blockIdx.y * TILE + y;

  float sum[EACH] = {};
  for (int begin = 0; begin < k; begin += TILE) {
    for (int i = 0; i < EACH; i++) {
      const int r = row + i * ROWS, d = begin + y + i * ROWS;
      left[y + i * ROWS][x] = r < m && begin + x < k ? a[(long long)r * k + begin + x] : 0.0f;
      right[y + i * ROWS][x] = d < k && column < n ? b[(long long)d * n + column] : 0.0f;
    }
    __syncthreads();
    // Never beyond k: adding a product of zeros can change the sign of a zero.
    const int depth = k - begin < TILE ? k - begin : TILE;
    for (int d = 0; d < depth; d++) {
      const float value = right[d][x];
      for (int i = 0; i < EACH; i++) sum[i] = fmaf(left[y + i * ROWS][d], value, sum[i]);
    }
    __syncthreads();
  }
  for (int i = 0; i < EACH; i++)
    if (row + i * ROWS < m && column < n) c[(long long)(row + i * ROWS) * n + column] = sum[i];
}
