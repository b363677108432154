// SPDX-License-Identifier: Apache-2.0
// MATMUL: who packs and multiplies what. The order of each element's terms is the same whichever way is taken.
//
// One thread, or many products at once: each thread does whole products with panels of its own. One large product: all
// pack, then all multiply, one panel of A at a time. Few rows: each thread packs a panel of B and uses it at once.

// Panels of A up to which B's panels are not kept: they would be used so few times.
#define FEW_PANELS 4

// Floats of packed A and of packed B, rounded up to cache lines.
static exact_i64 panels_a(const Set *set, exact_i64 m, exact_i64 k) {
  exact_i64 rows = m < PACKED_ROWS ? m : PACKED_ROWS, count = k < EXACT_BLOCK ? k : EXACT_BLOCK;
  return ceil_div(ceil_div(rows, set->rows) * (set->rows * count + PANEL_SLACK), 16) * 16 + 16;
}

static exact_i64 panels_b(const Set *set, exact_i64 n, exact_i64 k) {
  exact_i64 columns = n < PACKED_COLUMNS ? n : PACKED_COLUMNS, count = k < EXACT_BLOCK ? k : EXACT_BLOCK;
  return ceil_div(columns, set->columns) * set->columns * count + 2 * PREFETCH * set->columns;
}

// One panel of B for each thread.
static exact_i64 panel_b(const Set *set, exact_i64 k) {
  return set->columns * (k < EXACT_BLOCK ? k : EXACT_BLOCK) + 2 * PREFETCH * set->columns;
}

static int by_batch(exact_i64 batch, int threads) { return threads > 1 && batch >= threads; }

static int by_panels(const Set *set, exact_i64 m, int threads) {
  exact_i64 rows = m < PACKED_ROWS ? m : PACKED_ROWS, panels = ceil_div(rows, set->rows);
  return panels <= FEW_PANELS || (threads > 1 && panels < 3 * threads);
}

static int by_dots(const Matmul *matmul) { return matmul->m <= 2 && matmul->b_stride == 1 && matmul->a_stride == 1; }

// Floats that a product needs to work in.
exact_i64 exact_matmul_work(exact_i64 batch, exact_i64 m, exact_i64 n, exact_i64 k, int threads, int set_number) {
  const Set *set = sets[set_number];
  exact_i64 a = panels_a(set, m, k), b = panels_b(set, n, k);
  if (threads < 1) threads = 1;
  if (by_batch(batch, threads)) return threads * (a + b);
  return a + (by_panels(set, m, threads) ? threads * panel_b(set, k) : b);
}

static void multiply_alone(const Set *set, const Matmul *m, const float *a, const float *b, float *to, float *packed_a,
                           float *packed_b) {
  if (by_dots(m)) {
    for (exact_i64 j = 0; j < m->n; j += set->lanes)
      for (exact_i64 i = 0; i < m->m; i++)
        set->dots(a + i * m->a_row, b + j * m->b_row, m->b_row, (int)(m->n - j < set->lanes ? m->n - j : set->lanes), m->k,
                  to + i * m->n + j);
    return;
  }
  for (exact_i64 i = 0; i < m->m; i += PACKED_ROWS) {
    exact_i64 rows = m->m - i < PACKED_ROWS ? m->m - i : PACKED_ROWS, panels = ceil_div(rows, set->rows);
    for (exact_i64 p = 0; p < m->k; p += EXACT_BLOCK) {
      exact_i64 count = m->k - p < EXACT_BLOCK ? m->k - p : EXACT_BLOCK;
      set->pack_a(m, a + p * m->a_stride, i, rows, count, 0, panels, packed_a);
      for (exact_i64 j = 0; j < m->n; j += PACKED_COLUMNS) {
        exact_i64 columns = m->n - j < PACKED_COLUMNS ? m->n - j : PACKED_COLUMNS;
        set->pack_b(m, b + p * m->b_stride, j, columns, count, 0, ceil_div(columns, set->columns), packed_b);
        set->multiply(packed_a, rows, packed_b, columns, count, to + i * m->n + j, m->n, 0, panels, p > 0,
                      p + count == m->k);
      }
    }
  }
}

static void batch_part(void *context, int thread) {
  Run *run = context;
  const Matmul *m = run->instruction;
  exact_i64 a = panels_a(run->set, m->m, m->k), b = panels_b(run->set, m->n, m->k);
  float *work = at(run, m->work) + thread * (a + b);
  for (exact_i64 part; (part = take(run)) >= 0;) {
    exact_i64 i = part / m->batch[1], j = part % m->batch[1];
    multiply_alone(run->set, m, at(run, m->a) + i * m->a_batch[0] + j * m->a_batch[1],
                   at(run, m->b) + i * m->b_batch[0] + j * m->b_batch[1], at(run, m->to) + part * m->m * m->n, work,
                   work + a);
  }
}

// ---- One product by all threads ----

static void dots_part(void *context, int thread) {
  Run *run = context;
  const Matmul *m = run->instruction;
  (void)thread;
  for (exact_i64 part; (part = take(run)) >= 0;) {
    exact_i64 j = part * run->set->lanes, columns = m->n - j < run->set->lanes ? m->n - j : run->set->lanes;
    for (exact_i64 i = 0; i < m->m; i++)
      run->set->dots(run->a + i * m->a_row, run->b + j * m->b_row, m->b_row, (int)columns, m->k, run->to + i * m->n + j);
  }
}

// Few rows: A is packed; a panel of B is packed and used.
static void panel_part(void *context, int thread) {
  Run *run = context;
  const Matmul *m = run->instruction;
  float *packed = run->packed_b + thread * panel_b(run->set, m->k);
  exact_i64 width = run->set->columns;
  for (exact_i64 part; (part = take(run)) >= 0;) {
    exact_i64 j = part * width, columns = m->n - j < width ? m->n - j : width;
    run->set->pack_b(m, run->b, j, columns, run->count, 0, 1, packed);
    run->set->multiply(run->packed_a, run->rows, packed, columns, run->count, run->to + j, m->n, 0,
                       ceil_div(run->rows, run->set->rows), run->add, run->last);
  }
}

// Panels of A, as many as are given, and of B.
static void pack_part(void *context, int thread) {
  Run *run = context;
  const Matmul *m = run->instruction;
  (void)thread;
  for (exact_i64 part; (part = take(run)) >= 0;)
    if (part < run->a_parts)
      run->set->pack_a(m, run->a, 0, run->rows, run->count, part, part + 1, run->packed_a);
    else
      run->set->pack_b(m, run->b, 0, run->columns, run->count, part - run->a_parts, part - run->a_parts + 1, run->packed_b);
}

static void multiply_part(void *context, int thread) {
  Run *run = context;
  const Matmul *m = run->instruction;
  (void)thread;
  for (exact_i64 part; (part = take(run)) >= 0;)
    run->set->multiply(run->packed_a, run->rows, run->packed_b, run->columns, run->count, run->to, m->n, part, part + 1,
                       run->add, run->last);
}

static void multiply_together(Run *run, const Matmul *m, const float *a, const float *b, float *to) {
  const Set *set = run->set;
  run->packed_a = at(run, m->work);
  run->packed_b = run->packed_a + panels_a(set, m->m, m->k);
  if (by_dots(m)) {
    run->a = a;
    run->b = b;
    run->to = to;
    share(run, ceil_div(m->n, set->lanes), m->n * m->k, dots_part);
    return;
  }
  for (exact_i64 i = 0; i < m->m; i += PACKED_ROWS) {
    run->rows = m->m - i < PACKED_ROWS ? m->m - i : PACKED_ROWS;
    exact_i64 panels = ceil_div(run->rows, set->rows);
    for (exact_i64 p = 0; p < m->k; p += EXACT_BLOCK) {
      run->count = m->k - p < EXACT_BLOCK ? m->k - p : EXACT_BLOCK;
      run->add = p > 0;
      run->last = p + run->count == m->k;
      run->a = a + i * m->a_row + p * m->a_stride;
      run->a_parts = panels;
      if (by_panels(set, m->m, run->planned)) {
        run->b = b + p * m->b_stride;
        run->to = to + i * m->n;
        set->pack_a(m, run->a, 0, run->rows, run->count, 0, panels, run->packed_a);
        share(run, ceil_div(m->n, set->columns), run->rows * m->n * run->count / 16, panel_part);
        continue;
      }
      for (exact_i64 j = 0; j < m->n; j += PACKED_COLUMNS) {
        run->columns = m->n - j < PACKED_COLUMNS ? m->n - j : PACKED_COLUMNS;
        run->b = b + j * m->b_row + p * m->b_stride;
        run->to = to + i * m->n + j;
        exact_i64 parts = run->a_parts + ceil_div(run->columns, set->columns);
        share(run, parts, run->count * ((run->a_parts ? run->rows : 0) + run->columns), pack_part);
        share(run, panels, run->rows * run->columns * run->count / 16, multiply_part);
        run->a_parts = 0;
      }
    }
  }
}

static void run_matmul(Run *run) {
  const Matmul *m = run->instruction;
  exact_i64 batch = m->batch[0] * m->batch[1];
  if (m->k == 0) {
    memset(at(run, m->to), 0, (size_t)(batch * m->m * m->n) * sizeof(float));
  } else if (by_batch(batch, run->planned)) {
    share(run, batch, batch * m->m * m->n * m->k / 16, batch_part);
  } else {
    for (exact_i64 part = 0; part < batch; part++) {
      exact_i64 i = part / m->batch[1], j = part % m->batch[1];
      multiply_together(run, m, at(run, m->a) + i * m->a_batch[0] + j * m->a_batch[1],
                        at(run, m->b) + i * m->b_batch[0] + j * m->b_batch[1], at(run, m->to) + part * m->m * m->n);
    }
  }
}
