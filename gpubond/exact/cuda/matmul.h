// SPDX-License-Identifier: Apache-2.0
// MATMUL_NT: each element of the output is a chain of its own, in one thread, so tiling changes no order. K runs in
// consensus blocks of 512 terms, each from +0; its sum goes to the total in `out`, or, where thread blocks share K, to
// `out` as a scratch buffer that has a layer for each block, for `join_sum`. See docs/exact-cuda.md.
#pragma once

// A block of threads makes a tile of M x N elements. A warp has LANES_M x (32 / LANES_M) lanes, and a lane PIECES_M
// runs of 4 rows times PIECES_N runs of VECTOR columns: 4 x 8 lanes that read 16 bytes each collide in no bank.
template <int WARPS_M, int WARPS_N, int LANES_M, int PIECES_M, int PIECES_N, int VECTOR, int DEPTH> struct Tile {
  static const int LANES_N = 32 / LANES_M;
  static const int WARP_M = LANES_M * PIECES_M * 4, WARP_N = LANES_N * PIECES_N * VECTOR;
  static const int M = WARPS_M * WARP_M, N = WARPS_N * WARP_N;
  static const int THREADS = WARPS_M * WARPS_N * 32;
  static const int ROWS = PIECES_M * 4, COLUMNS = PIECES_N * VECTOR;
  // A row of a tile in shared memory is a column of the matrix; 4 more floats part the banks and keep 16 bytes.
  static const int PITCH_M = M + 4, PITCH_N = N + 4;

  // What one thread carries from global to shared memory: runs of 4 terms of one row.
  template <int LINES> struct Carrier {
    static const int RUNS = DEPTH / 4, COUNT = (LINES * RUNS + THREADS - 1) / THREADS;
    static __device__ __forceinline__ bool idle(unsigned place) {
      return LINES * RUNS % THREADS != 0 && place >= LINES * RUNS;
    }
    float4 held[COUNT];

    // Terms beyond the end are `filler`: -0 against 1 leaves every accumulator as it is. Lines beyond the matrix are
    // the last line once more; nobody stores what comes of them.
    __device__ __forceinline__ void load(const float* from, unsigned first, unsigned lines, unsigned pitch, unsigned at,
                                         unsigned end, bool vector, float filler) {
#pragma unroll
      for (int i = 0; i < COUNT; i++) {
        const unsigned place = threadIdx.x + i * THREADS;
        if (idle(place)) continue;
        const unsigned line = min(first + place / RUNS, lines - 1u), term = at + place % RUNS * 4u;
        const float* const run = from + (unsigned long long)line * pitch + term;
        if (vector && term + 4u <= end) {
          held[i] = *(const float4*)run;
        } else {
          held[i].x = term < end ? run[0] : filler;
          held[i].y = term + 1u < end ? run[1] : filler;
          held[i].z = term + 2u < end ? run[2] : filler;
          held[i].w = term + 3u < end ? run[3] : filler;
        }
      }
    }
    template <int PITCH> __device__ __forceinline__ void store(float (*to)[PITCH]) const {
#pragma unroll
      for (int i = 0; i < COUNT; i++) {
        const unsigned place = threadIdx.x + i * THREADS, line = place / RUNS, term = place % RUNS * 4u;
        if (idle(place)) continue;
        to[term][line] = held[i].x;
        to[term + 1u][line] = held[i].y;
        to[term + 2u][line] = held[i].z;
        to[term + 3u][line] = held[i].w;
      }
    }
  };

  template <int PIECES, int WIDTH, int LANES>
  static __device__ __forceinline__ void fetch(float* to, const float* row, unsigned first) {
#pragma unroll
    for (int i = 0; i < PIECES; i++) {
      const float* const from = row + first + i * LANES * WIDTH;
      if (WIDTH == 4) {
        const float4 four = *(const float4*)from;
        to[i * WIDTH] = four.x;
        to[i * WIDTH + 1 % WIDTH] = four.y;
        to[i * WIDTH + 2 % WIDTH] = four.z;
        to[i * WIDTH + 3 % WIDTH] = four.w;
      } else {
        to[i * WIDTH] = *from;
      }
    }
  }

  // grid: the tiles of each matrix; pieces of K (1, or one a consensus block). layer: elements of `out` for such a piece.
  static __device__ __forceinline__ void run(const float* a, const float* b, float* out, unsigned m, unsigned n,
                                             unsigned k, unsigned row_step, unsigned column_step, bool vector,
                                             unsigned long long layer) {
    static_assert(EXACT_BLOCK % DEPTH == 0, "a tile must not reach into the next consensus block");
    __shared__ __align__(16) float left[2][DEPTH][PITCH_M];
    __shared__ __align__(16) float right[2][DEPTH][PITCH_N];
    const unsigned across = (n + N - 1u) / N, tiles = (m + M - 1u) / M * across;
    const unsigned matrix = blockIdx.x / tiles, tile = blockIdx.x % tiles;
    const unsigned tile_m = tile / across * M, tile_n = tile % across * N;
    const unsigned warp = threadIdx.x / 32u, lane = threadIdx.x % 32u;
    const unsigned own_m = warp / WARPS_N * WARP_M + lane / LANES_N * 4u;
    const unsigned own_n = warp % WARPS_N * WARP_N + lane % LANES_N * VECTOR;
    const bool split = gridDim.y > 1u;
    unsigned begin = split ? blockIdx.y * EXACT_BLOCK : 0u;
    const unsigned last = split ? min(begin + EXACT_BLOCK, k) : k;
    a += (unsigned long long)matrix * m * k;
    b += (unsigned long long)matrix * n * k;
    out += blockIdx.y * layer + (unsigned long long)matrix * m * n;

    Carrier<M> of_a;
    Carrier<N> of_b;
    of_a.load(a, tile_m, m, k, begin, last, vector, -0.0f);
    of_b.load(b, tile_n, n, k, begin, last, vector, 1.0f);
    of_a.store(left[0]);
    of_b.store(right[0]);
    __syncthreads();
    int now = 0;
    bool first = true;
    do {
      const unsigned end = min(begin + EXACT_BLOCK, last);
      float sum[ROWS][COLUMNS];
#pragma unroll
      for (int i = 0; i < ROWS; i++)
#pragma unroll
        for (int j = 0; j < COLUMNS; j++) sum[i][j] = 0.0f;
      for (; begin < end; begin += DEPTH) {
        // Loaded while this tile is worked on; consensus blocks end where tiles do, but for the last one.
        const bool more = begin + DEPTH < last;
        if (more) {
          of_a.load(a, tile_m, m, k, begin + DEPTH, last, vector, -0.0f);
          of_b.load(b, tile_n, n, k, begin + DEPTH, last, vector, 1.0f);
        }
#pragma unroll
        for (int p = 0; p < DEPTH; p++) {
          float x[ROWS], y[COLUMNS];
          fetch<PIECES_M, 4, LANES_M>(x, left[now][p], own_m);
          fetch<PIECES_N, VECTOR, LANES_N>(y, right[now][p], own_n);
#pragma unroll
          for (int i = 0; i < ROWS; i++)
#pragma unroll
            for (int j = 0; j < COLUMNS; j++) sum[i][j] = exact_fma_raw(x[i], y[j], sum[i][j]);
        }
        if (more) {
          now ^= 1;
          of_a.store(left[now]);
          of_b.store(right[now]);
          __syncthreads();
        }
      }
      // Else the compiler works out every address before the loop, and spills them.
      unsigned corner_m = tile_m + own_m, corner_n = tile_n + own_n;
      asm volatile("" : "+r"(corner_m), "+r"(corner_n));
#pragma unroll
      for (int i = 0; i < ROWS; i++) {
        const unsigned row = corner_m + i / 4 * (LANES_M * 4) + i % 4;
#pragma unroll
        for (int j = 0; j < COLUMNS; j++) {
          const unsigned column = corner_n + j / VECTOR * (LANES_N * VECTOR) + j % VECTOR;
          if (row < m && column < n) {
            float* const place = out + (unsigned long long)row * row_step + (unsigned long long)column * column_step;
            // A NaN stays one until here, whatever its bits are.
            *place = first ? exact_canonical(sum[i][j]) : exact_add(*place, sum[i][j]);
          }
        }
      }
      first = false;
    } while (begin < last);
  }
};

// m and n are at least 1. row_step, column_step: of `out`, so that a product can be made as its transpose.
#define EXACT_MATMUL(name, least_blocks, ...)                                                                     \
  extern "C" __global__ void __launch_bounds__(Tile<__VA_ARGS__>::THREADS, least_blocks)                          \
      name(const float* a, const float* b, float* out, unsigned long long m, unsigned long long n,                \
           unsigned long long k, unsigned long long row_step, unsigned long long column_step,                     \
           unsigned long long vector, unsigned long long layer) {                                                 \
    Tile<__VA_ARGS__>::run(a, b, out, (unsigned)m, (unsigned)n, (unsigned)k, (unsigned)row_step,                  \
                           (unsigned)column_step, vector != 0, layer);                                            \
  }
EXACT_MATMUL(matmul_128x128, 2, 2, 4, 8, 2, 2, 4, 8)
EXACT_MATMUL(matmul_64x64, 4, 2, 2, 8, 1, 2, 4, 16)
EXACT_MATMUL(matmul_8x128, 4, 1, 4, 1, 2, 1, 1, 32)
