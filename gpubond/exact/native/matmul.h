// SPDX-License-Identifier: Apache-2.0
// MATMUL_NT for one instruction set: packing, and tiles of C kept in registers for one block of 512 terms.

// Panel of `width` rows, of which `rows` are there, as packed[p * width + row]. The rest holds what happens to stand
// there: its products are thrown away. May write up to PANEL_SLACK floats more.
static void NAME(pack)(const float *x, exact_i64 row_stride, exact_i64 stride, int rows, exact_i64 count, int width,
                       float *packed) {
  if (stride == 1) {
    // Only where turning finds no whole vector of rows, the columns left over are copied one by one.
    for (int first = 0; first < width; first += VL) {
      const float *pointers[VL];
      for (int i = 0; i < VL; i++) {
        int row = first + i < rows ? first + i : rows - 1;
        pointers[i] = x + row * row_stride;
      }
      int taken = width - first < VL ? width - first : VL;
      for (exact_i64 p = NAME(turn)(pointers, count, packed + first, width); p < count; p++)
        for (int i = 0; i < taken; i++) packed[p * width + first + i] = pointers[i][p];
    }
  } else if (row_stride == 1 && VL > 1) {
    // Columns stand as they are wanted. What is written beyond the width, the next column overwrites.
    int whole = rows / VL * VL;
    for (exact_i64 p = 0; p < count; p++) {
      const float *from = x + p * stride;
      float *to = packed + p * width;
      for (int i = 0; i < whole; i += VL) v_store(to + i, v_load(from + i));
      if (whole < rows) v_store(to + whole, v_load_some(from + whole, rows - whole));
    }
  } else {
    for (exact_i64 p = 0; p < count; p++)
      for (int i = 0; i < width; i++) packed[p * width + i] = x[(i < rows ? i : rows - 1) * row_stride + p * stride];
  }
}

// One tile: `rows` x COLUMNS, of which `columns` are there. add: to what C holds; last: results are made canonical.
static inline __attribute__((always_inline)) void NAME(tile)(const int rows, exact_i64 count, const float *a,
                                                             const float *b, float *c, exact_i64 width, int columns,
                                                             int add, int last) {
  V sums[ROWS][2];
#pragma GCC unroll 16
  for (int i = 0; i < rows; i++) {
    sums[i][0] = v_zero();
    sums[i][1] = v_zero();
    __builtin_prefetch(c + i * width, 1);
    __builtin_prefetch(c + i * width + COLUMNS - 1, 1);
  }
#pragma GCC unroll 2
  for (exact_i64 p = 0; p < count; p++) {
    V left = v_load(b), right = v_load(b + VL);
    __builtin_prefetch(b + PREFETCH * COLUMNS);
    if (VL == 16) __builtin_prefetch(b + PREFETCH * COLUMNS + VL);
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++) {
      V one = v_all(a[i]);
      sums[i][0] = v_fma(one, left, sums[i][0]);
      sums[i][1] = v_fma(one, right, sums[i][1]);
    }
    a += rows;
    b += COLUMNS;
  }
  if (columns == COLUMNS) {
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++) {
      float *to = c + i * width;
      V left = sums[i][0], right = sums[i][1];
      if (add) {
        left = v_add(v_load(to), left);
        right = v_add(v_load(to + VL), right);
      }
      if (last) {
        left = v_canonical(left);
        right = v_canonical(right);
      }
      v_store(to, left);
      v_store(to + VL, right);
    }
  } else {
    float held[COLUMNS];
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++) {
      float *to = c + i * width;
      v_store(held, sums[i][0]);
      v_store(held + VL, sums[i][1]);
      for (int j = 0; j < columns; j++) to[j] = exact_canonical(add ? exact_add_raw(to[j], held[j]) : held[j]);
    }
  }
}

typedef void NAME(Tile)(exact_i64 count, const float *a, const float *b, float *c, exact_i64 width, int columns, int add,
                        int last);
#define TILE(n)                                                                                                        \
  static void NAME(tile_##n)(exact_i64 count, const float *a, const float *b, float *c, exact_i64 width, int columns, \
                             int add, int last) {                                                                     \
    NAME(tile)(n <= ROWS ? n : ROWS, count, a, b, c, width, columns, add, last);                                      \
  }
TILE(1) TILE(2) TILE(3) TILE(4)
#if ROWS > 4
TILE(5) TILE(6)
#endif
#if ROWS > 6
TILE(7) TILE(8)
#endif
#if ROWS > 8
TILE(9) TILE(10) TILE(11) TILE(12)
#endif
#undef TILE
// By the number of rows.
static NAME(Tile) *const NAME(tiles)[ROWS + 1] = {
    0, NAME(tile_1), NAME(tile_2), NAME(tile_3), NAME(tile_4),
#if ROWS > 4
    NAME(tile_5), NAME(tile_6),
#endif
#if ROWS > 6
    NAME(tile_7), NAME(tile_8),
#endif
#if ROWS > 8
    NAME(tile_9), NAME(tile_10), NAME(tile_11), NAME(tile_12),
#endif
};

// Panels begin .. end of one block of terms of A, or of B. Beyond the last row there is a shorter panel of A.
static void NAME(pack_a)(const Matmul *m, const float *a, exact_i64 first, exact_i64 rows, exact_i64 count,
                         exact_i64 begin, exact_i64 end, float *packed) {
  for (exact_i64 at = begin; at < end; at++) {
    int here = (int)(rows - at * ROWS < ROWS ? rows - at * ROWS : ROWS);
    NAME(pack)(a + (first + at * ROWS) * m->a_row, m->a_row, m->a_stride, here, count, here,
               packed + at * (ROWS * count + PANEL_SLACK));
  }
}

static void NAME(pack_b)(const Matmul *m, const float *b, exact_i64 first, exact_i64 columns, exact_i64 count,
                         exact_i64 begin, exact_i64 end, float *packed) {
  for (exact_i64 at = begin; at < end; at++) {
    int here = (int)(columns - at * COLUMNS < COLUMNS ? columns - at * COLUMNS : COLUMNS);
    NAME(pack)(b + (first + at * COLUMNS) * m->b_row, m->b_row, m->b_stride, here, count, COLUMNS,
               packed + at * COLUMNS * count);
  }
}

// Panels of A, begin .. end, against all columns that are packed. A's panel stays in the first cache, B in the second.
static void NAME(multiply)(const float *a, exact_i64 rows, const float *b, exact_i64 columns, exact_i64 count, float *c,
                           exact_i64 width, exact_i64 begin, exact_i64 end, int add, int last) {
  for (exact_i64 at = begin; at < end; at++) {
    int here = (int)(rows - at * ROWS < ROWS ? rows - at * ROWS : ROWS);
    NAME(Tile) *tile = NAME(tiles)[here];
    for (exact_i64 j = 0; j < columns; j += COLUMNS)
      tile(count, a + at * (ROWS * count + PANEL_SLACK), b + j * count, c + at * ROWS * width + j, width,
           (int)(columns - j < COLUMNS ? columns - j : COLUMNS), add, last);
  }
}
