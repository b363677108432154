// SPDX-License-Identifier: Apache-2.0
// The functions of one instruction set, gathered.

#ifndef GPUBOND_EXACT_SET_H
#define GPUBOND_EXACT_SET_H
typedef struct {
  const char *name;
  int lanes, rows, columns;
  Elementwise *const *elementwise;
  void (*uniform)(float *, exact_u32, exact_u32, exact_u64, exact_u32, exact_i64, exact_i64);
  void (*sum_rows)(const float *const *, int, exact_i64, float *, float *);
  void (*sum_columns)(const float *, exact_i64, exact_i64, float *, exact_i64);
  float (*max_row)(const float *, exact_i64);
  void (*max_columns)(const float *, exact_i64, exact_i64, float *, exact_i64);
  void (*dots)(const float *, const float *, exact_i64, int, exact_i64, float *);
  exact_i64 (*turn)(const float *const *, exact_i64, float *, exact_i64);
  void (*pack_a)(const Matmul *, const float *, exact_i64, exact_i64, exact_i64, exact_i64, exact_i64, float *);
  void (*pack_b)(const Matmul *, const float *, exact_i64, exact_i64, exact_i64, exact_i64, exact_i64, float *);
  void (*multiply)(const float *, exact_i64, const float *, exact_i64, exact_i64, float *, exact_i64, exact_i64,
                   exact_i64, int, int);
} Set;
#define STRING_(x) #x
#define STRING(x) STRING_(x)
#endif

static exact_i64 NAME(turn_rows)(const float *const *rows, exact_i64 count, float *columns, exact_i64 width) {
  return NAME(turn)(rows, count, columns, width);
}

static const Set NAME(set) = {
    STRING(SET),       VL,           ROWS,              COLUMNS,    NAME(elementwise), NAME(uniform), NAME(sum_rows),
    NAME(sum_columns), NAME(max_row), NAME(max_columns), NAME(dots), NAME(turn_rows),   NAME(pack_a),  NAME(pack_b),
    NAME(multiply),
};

#undef V
#undef VL
#undef ROWS
#undef COLUMNS
#undef IVDEP
#undef v_load
#undef v_load_some
#undef v_store
#undef v_all
#undef v_zero
#undef v_fma
#undef v_add
#undef v_canonical
