// SPDX-License-Identifier: Apache-2.0
// What a plan is made of: words of 64 bits, written by gpubond/exact/c_plan.py and carried out by exact.c.
//
// An instruction: kind, its length in words, its own words. A place: base (number of a pointer), offset in elements.
// Base 0 is the arena; the others are the state's tensors, the slices of the data, the next state's tensors, and last what
// gets the roots: 8 elements each.
#ifndef GPUBOND_EXACT_PLAN_H
#define GPUBOND_EXACT_PLAN_H

#include "exact_core.h"

#define PLAN_VERSION 2
#define TILE_FLOATS 1024
#define MAX_SLOTS 64
#define MAX_RANK 4
// Of the trees of docs/exact.md, section 4: elements of a leaf, and the tag of leaves; that of nodes is one more.
#define LEAF_ELEMENTS 64
#define ELEMENTS_TAG 2

enum Kind { FUSED = 1, COPY = 2, GATHER = 3, MATMUL = 4, SUM = 5, ROWMAX = 6, ROOTS = 7 };
enum Mode { DENSE = 0, CONSTANT = 1, STRIDED = 2 };
enum { OP_UNIFORM = 2, OP_ADD = 9, OP_LAST = 21 };

typedef struct {
  exact_i64 base, offset;
} Place;

// FUSED: operations element by element over tiles. A slot is an operand, or beyond those a tile of its own.
// Operand: place, mode, four strides. For CONSTANT the offset is the value's bits.
typedef struct {
  Place place;
  exact_i64 mode, strides[MAX_RANK];
} Operand;
// Operation: opcode, slot of the result, three slots of inputs (0 where there is none), three parameters.
typedef struct {
  exact_i64 code, to, inputs[3], parameters[3];
} Micro;
typedef struct {
  exact_i64 count, shape[MAX_RANK], operands, tiles, micros;
  // Then the operands, then the operations.
} Fused;

// COPY: elements of a shape from some strides to others.
typedef struct {
  Place from, to;
  exact_i64 shape[MAX_RANK], from_strides[MAX_RANK], to_strides[MAX_RANK];
} Copy;

// GATHER: rows of a table, all dense.
typedef struct {
  Place table, index, to;
  exact_i64 rows, width, count;
} Gather;

// MATMUL: batch of two dimensions; the result is dense. work: a place for packed panels.
typedef struct {
  Place a, b, to, work;
  exact_i64 batch[2], m, n, k;
  exact_i64 a_batch[2], a_row, a_stride, b_batch[2], b_row, b_stride;
} Matmul;

// SUM and ROWMAX: the result is dense, of a shape of three dimensions; n terms each.
typedef struct {
  Place from, to;
  exact_i64 shape[3], strides[3], n, stride;
} Reduce;

// ROOTS: of the elements of tensors, or of what VIEWs show. work: a place for nodes. parts, elements: to be hashed, of
// all tensors together.
typedef struct {
  Place work;
  exact_i64 items, parts, elements;
  // Then the tensors.
} Roots;
// first: number of its first part. parts: that are hashed; those beyond repeat them. node: where its nodes begin.
typedef struct {
  Place from, to;
  exact_i64 count, first, parts, node, dense, shape[MAX_RANK], strides[MAX_RANK];
} Rooted;

#endif
