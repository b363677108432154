// SPDX-License-Identifier: Apache-2.0
// ROOTS: the roots over the elements of tensors, as docs/exact.md, section 4, has them. A part is a subtree of 128 leaves;
// what a VIEW shows is put side by side in the first cache and hashed there, so that it never stands in memory.

#define PART_LEAVES 128
#define PART_HEIGHT 7
#define PART_ELEMENTS (PART_LEAVES * LEAF_ELEMENTS)
// Work on an element, beside one operation on it.
#define HASHING_COST 10

// The tensor that a part is of: the last one that begins at or before it.
static const Rooted *rooted_at(const Roots *roots, exact_i64 part) {
  const Rooted *items = (const Rooted *)(roots + 1);
  exact_i64 low = 0, high = roots->items - 1;
  while (low < high) {
    exact_i64 middle = (low + high + 1) / 2;
    if (items[middle].first <= part)
      low = middle;
    else
      high = middle - 1;
  }
  return items + low;
}

static void roots_part(void *context, int thread) {
  Run *run = context;
  const Roots *roots = run->instruction;
  float *own = run->tiles + (exact_i64)thread * MAX_SLOTS * TILE_FLOATS;
  uint8_t *hashes = (uint8_t *)(own + PART_ELEMENTS), *nodes = (uint8_t *)at(run, roots->work);
  for (exact_i64 part; (part = take(run)) >= 0;) {
    const Rooted *item = rooted_at(roots, part);
    exact_i64 begin = (part - item->first) * PART_ELEMENTS;
    exact_i64 count = item->count - begin < PART_ELEMENTS ? item->count - begin : PART_ELEMENTS;
    const float *from = at(run, item->from);
    if (item->dense) {
      from += begin;
    } else {
      fetch(run, from, item->shape, item->strides, begin, count, own);
      from = own;
    }
#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
    for (exact_i64 i = 0; i < count; i++) {
      exact_u32 bits = __builtin_bswap32(exact_bits(from[i]));
      memcpy(own + i, &bits, sizeof bits);
    }
    from = own;
#endif
    // A tensor of one part is as high as it has to be.
    int height = 0;
    while (height < PART_HEIGHT && (exact_i64)LEAF_ELEMENTS << height < item->count) height++;
    exact_hash_tree((const uint8_t *)from, count * (exact_i64)sizeof(float), LEAF_ELEMENTS * (int)sizeof(float),
                    ELEMENTS_TAG, height, hashes, 0);
    memcpy(nodes + 32 * (item->node + part - item->first), hashes, 32);
  }
}

static void run_roots(Run *run) {
  const Roots *roots = run->instruction;
  const Rooted *items = (const Rooted *)(roots + 1);
  share(run, roots->parts, (roots->elements + roots->parts * LEAF_ELEMENTS) * HASHING_COST, roots_part);
  for (const Rooted *item = items; item < items + roots->items; item++) {
    uint8_t *nodes = (uint8_t *)at(run, roots->work) + 32 * item->node;
    exact_i64 parts = ceil_div(item->count, PART_ELEMENTS);
    // What repeats was hashed once.
    for (exact_i64 part = item->parts; part < parts; part++) memcpy(nodes + 32 * part, nodes + 32 * (part - item->parts), 32);
    int top = PART_HEIGHT;
    while ((exact_i64)1 << (top - PART_HEIGHT) < parts) top++;
    sha_climb(nodes, parts, ELEMENTS_TAG + 1, PART_HEIGHT, top, 0);
    memcpy(at(run, item->to), nodes, 32);
  }
}
