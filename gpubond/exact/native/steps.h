// SPDX-License-Identifier: Apache-2.0
// Instructions other than products: each split in parts that threads take one after another.

// Tiles in a part of a FUSED.
#define PART_TILES 4

// Memory for tiles of all threads, kept from step to step; NULL if there is none.
static float *own_tiles(int threads) {
  static float *held;
  static int room;
  if (threads > room) {
    void *made = NULL;
    if (posix_memalign(&made, 4096, (size_t)threads * MAX_SLOTS * TILE_FLOATS * sizeof(float)) != 0) return NULL;
    free(held);
    held = made;
    room = threads;
  }
  return held;
}

static void fill(float *to, float value, exact_i64 count) {
  for (exact_i64 i = 0; i < count; i++) to[i] = value;
}

// A plane of two dimensions: rows of `inner` elements.
static void copy_plane(const Run *run, const float *from, float *to, exact_i64 outer, exact_i64 inner, exact_i64 from_outer,
                       exact_i64 from_inner, exact_i64 to_outer, exact_i64 to_inner) {
  if (from_inner == 1 && to_inner == 1) {
    for (exact_i64 i = 0; i < outer; i++)
      memcpy(to + i * to_outer, from + i * from_outer, (size_t)inner * sizeof(float));
    return;
  }
  exact_i64 j = 0;
  const int lanes = run->set->lanes;
  if (from_outer == 1 && to_inner == 1 && lanes > 1) {
    const float *rows[16];
    for (; j + lanes <= inner; j += lanes) {
      for (int i = 0; i < lanes; i++) rows[i] = from + (j + i) * from_inner;
      for (exact_i64 i = run->set->turn(rows, outer, to + j, to_outer); i < outer; i++)
        for (int lane = 0; lane < lanes; lane++) to[i * to_outer + j + lane] = rows[lane][i];
    }
  }
  for (exact_i64 i = 0; i < outer; i++)
    for (exact_i64 q = j; q < inner; q++) to[i * to_outer + q * to_inner] = from[i * from_outer + q * from_inner];
}

// Elements first .. first + count, in the shape's order, of a strided operand.
static void fetch(const Run *run, const float *from, const exact_i64 *shape, const exact_i64 *strides, exact_i64 first,
                  exact_i64 count, float *to) {
  exact_i64 inner = shape[3], place[MAX_RANK], rest = first;
  for (int d = MAX_RANK - 1; d >= 0; d--) {
    place[d] = rest % shape[d];
    rest /= shape[d];
  }
  while (count > 0) {
    const float *x = from + place[0] * strides[0] + place[1] * strides[1] + place[2] * strides[2] + place[3] * strides[3];
    exact_i64 now = inner - place[3] < count ? inner - place[3] : count, rows = count / inner;
    if (strides[3] == 1) {
      memcpy(to, x, (size_t)now * sizeof(float));
    } else if (strides[3] == 0) {
      fill(to, *x, now);
    } else if (place[3] == 0 && rows > 1) {
      // Whole rows that are columns there.
      if (rows > shape[2] - place[2]) rows = shape[2] - place[2];
      copy_plane(run, x, to, rows, inner, strides[2], strides[3], inner, 1);
      now = rows * inner;
      place[2] += rows - 1;
    } else {
      for (exact_i64 i = 0; i < now; i++) to[i] = x[i * strides[3]];
    }
    to += now;
    count -= now;
    place[3] = 0;
    for (int d = MAX_RANK - 2; d >= 0 && ++place[d] == shape[d]; d--) place[d] = 0;
  }
}

static void fused_part(void *context, int thread) {
  Run *run = context;
  const Fused *fused = run->instruction;
  const Operand *operands = (const Operand *)(fused + 1);
  const Micro *micros = (const Micro *)(operands + fused->operands);
  float *slots[MAX_SLOTS];
  float *own = run->tiles + (exact_i64)thread * MAX_SLOTS * TILE_FLOATS;
  exact_i64 size = fused->count < TILE_FLOATS ? fused->count : TILE_FLOATS;
  for (exact_i64 i = 0; i < fused->operands + fused->tiles; i++) slots[i] = own + i * TILE_FLOATS;
  for (exact_i64 i = 0; i < fused->operands; i++)
    if (operands[i].mode == CONSTANT) fill(slots[i], exact_float((exact_u32)operands[i].place.offset), size);
  for (exact_i64 part; (part = take(run)) >= 0;) {
    exact_i64 end = (part + 1) * PART_TILES * TILE_FLOATS;
    if (end > fused->count) end = fused->count;
    for (exact_i64 first = part * PART_TILES * TILE_FLOATS; first < end; first += TILE_FLOATS) {
      exact_i64 count = end - first < TILE_FLOATS ? end - first : TILE_FLOATS;
      for (exact_i64 i = 0; i < fused->operands; i++)
        if (operands[i].mode == DENSE)
          slots[i] = at(run, operands[i].place) + first;
        else if (operands[i].mode == STRIDED)
          fetch(run, at(run, operands[i].place), fused->shape, operands[i].strides, first, count, slots[i]);
      for (exact_i64 i = 0; i < fused->micros; i++) {
        const Micro *micro = micros + i;
        if (micro->code == OP_UNIFORM)
          run->set->uniform(slots[micro->to], (exact_u32)micro->parameters[0], (exact_u32)micro->parameters[1],
                            run->step, (exact_u32)micro->parameters[2], first, count);
        else
          run->set->elementwise[micro->code - OP_ADD](slots[micro->to], slots[micro->inputs[0]],
                                                      slots[micro->inputs[1]], slots[micro->inputs[2]], count);
      }
    }
  }
}

static void run_fused(Run *run) {
  const Fused *fused = run->instruction;
  share(run, ceil_div(fused->count, PART_TILES * TILE_FLOATS), fused->count * fused->micros, fused_part);
}

// ---- Copies ----

// Rows of a plane in a part.
#define PART_ROWS 64

static void copy_part(void *context, int thread) {
  Run *run = context;
  const Copy *copy = run->instruction;
  exact_i64 strips = ceil_div(copy->shape[2], PART_ROWS);
  (void)thread;
  for (exact_i64 part; (part = take(run)) >= 0;) {
    exact_i64 first = part % strips * PART_ROWS, plane = part / strips;
    exact_i64 i = plane / copy->shape[1], j = plane % copy->shape[1];
    exact_i64 rows = copy->shape[2] - first < PART_ROWS ? copy->shape[2] - first : PART_ROWS;
    copy_plane(run,
               at(run, copy->from) + i * copy->from_strides[0] + j * copy->from_strides[1] + first * copy->from_strides[2],
               at(run, copy->to) + i * copy->to_strides[0] + j * copy->to_strides[1] + first * copy->to_strides[2], rows,
               copy->shape[3], copy->from_strides[2], copy->from_strides[3], copy->to_strides[2], copy->to_strides[3]);
  }
}

static void run_copy(Run *run) {
  const Copy *copy = run->instruction;
  exact_i64 planes = copy->shape[0] * copy->shape[1];
  share(run, planes * ceil_div(copy->shape[2], PART_ROWS), planes * copy->shape[2] * copy->shape[3], copy_part);
}

// ---- GATHER ----

#define PART_GATHERED 64

static void gather_part(void *context, int thread) {
  Run *run = context;
  const Gather *gather = run->instruction;
  const float *table = at(run, gather->table), *index = at(run, gather->index);
  size_t bytes = (size_t)gather->width * sizeof(float);
  (void)thread;
  for (exact_i64 part; (part = take(run)) >= 0;) {
    exact_i64 end = (part + 1) * PART_GATHERED < gather->count ? (part + 1) * PART_GATHERED : gather->count;
    for (exact_i64 i = part * PART_GATHERED; i < end; i++) {
      exact_i64 row = exact_row(index[i], (exact_u32)gather->rows);
      float *to = at(run, gather->to) + i * gather->width;
      if (row < 0)
        memset(to, 0, bytes);
      else
        memcpy(to, table + row * gather->width, bytes);
    }
  }
}

static void run_gather(Run *run) {
  const Gather *gather = run->instruction;
  share(run, ceil_div(gather->count, PART_GATHERED), gather->count * gather->width, gather_part);
}

// ---- SUM, ROWMAX ----

// Sums in a part.
#define PART_REDUCED 64

static void reduce_lines(const Run *run, int sum, const Reduce *reduce, exact_i64 begin, exact_i64 end, float *held) {
  const float *from = at(run, reduce->from);
  float *to = at(run, reduce->to);
  exact_i64 n = reduce->n, last = reduce->shape[2];
  for (exact_i64 i = begin; i < end;) {
    exact_i64 inner = i % last, plane = i / last;
    exact_i64 now = last - inner < end - i ? last - inner : end - i;
    const float *x = from + plane / reduce->shape[1] * reduce->strides[0] + plane % reduce->shape[1] * reduce->strides[1] +
                     inner * reduce->strides[2];
    if (reduce->stride == 1) {
      const float *rows[16];
      if (now > run->set->lanes) now = run->set->lanes;
      for (exact_i64 j = 0; j < now; j++) rows[j] = x + j * reduce->strides[2];
      if (sum)
        run->set->sum_rows(rows, (int)now, n, to + i, held);
      else
        for (exact_i64 j = 0; j < now; j++) to[i + j] = run->set->max_row(rows[j], n);
    } else if (reduce->strides[2] == 1) {
      (sum ? run->set->sum_columns : run->set->max_columns)(x, reduce->stride, n, to + i, now);
    } else {
      for (exact_i64 j = 0; j < now; j++)
        to[i + j] = (sum ? exact_sum : exact_maximum)(x + j * reduce->strides[2], reduce->stride, n);
    }
    i += now;
  }
}

static void reduce_part(Run *run, int thread, int sum) {
  const Reduce *reduce = run->instruction;
  exact_i64 count = reduce->shape[0] * reduce->shape[1] * reduce->shape[2];
  for (exact_i64 part; (part = take(run)) >= 0;) {
    exact_i64 end = (part + 1) * PART_REDUCED < count ? (part + 1) * PART_REDUCED : count;
    reduce_lines(run, sum, reduce, part * PART_REDUCED, end, run->tiles + (exact_i64)thread * MAX_SLOTS * TILE_FLOATS);
  }
}

static void sum_part(void *context, int thread) { reduce_part(context, thread, 1); }
static void max_part(void *context, int thread) { reduce_part(context, thread, 0); }

static void run_reduce(Run *run, exact_i64 kind) {
  const Reduce *reduce = run->instruction;
  exact_i64 count = reduce->shape[0] * reduce->shape[1] * reduce->shape[2];
  share(run, ceil_div(count, PART_REDUCED), count * (reduce->n + 1), kind == SUM ? sum_part : max_part);
}
