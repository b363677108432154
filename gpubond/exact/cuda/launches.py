# SPDX-License-Identifier: Apache-2.0
"""Which kernels an operation launches, with which tiles, and when thread blocks share a sum. No bit hangs on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from gpubond.exact.cuda.layout import FLOAT_BYTES, Place, is_alias
from gpubond.exact.program import ELEMENTWISE, Op, Opcode
from gpubond.exact.shapes import MAX_RANK, count

# Terms of a consensus block, see docs/exact.md.
BLOCK = 512
STEP: Final = "step"
Word = int | Place | Literal["step"]

_THREADS = 256
# Of reduce.h and kernels.cu.
_REDUCE_CHAINS, _TURN = 128, 32
# A grid has at most so many layers.
_MOST_LAYERS = 65_535


@dataclass(frozen=True)
class Tile:
    """A kernel for MATMUL_NT: rows and columns of the output that one block of threads makes."""

    kernel: str
    m: int
    n: int
    threads: int

    def count(self, m: int, n: int) -> int:
        """Tiles of a matrix of m rows and n columns."""
        return -(-m // self.m) * -(-n // self.n)


LARGE = Tile("matmul_128x128", 128, 128, 256)
MIDDLE = Tile("matmul_64x64", 64, 64, 128)
SKINNY = Tile("matmul_8x128", 8, 128, 128)
_SKINNY_ROWS = 16


@dataclass(frozen=True)
class Choices:
    """How much the device does at once, and how much memory a shared sum may take.

    processors: multiprocessors of the device. split_bytes: most bytes of scratch for an operation's block sums.
    tile: always this one; for tests.
    """

    processors: int = 128
    split_bytes: int = 64 << 20
    tile: Tile | None = None


@dataclass(frozen=True)
class Launch:
    """One launch. grid: blocks in x and y. words: the kernel's parameters, 8 bytes each."""

    kernel: str
    grid: tuple[int, int]
    threads: int
    words: tuple[Word, ...]


def launches(
    op: Op, position: int, inputs: Sequence[Place], output: Place, scratch: Place | None, choices: Choices
) -> list[Launch]:
    """What carries out operation number `position`. scratch: of `scratch_bytes`, if that is not 0."""
    if count(op.shape) == 0 or is_alias(op):
        return []
    if op.code in ELEMENTWISE:
        return [_each(f"op_{op.code.name.lower()}", count(op.shape), (*inputs, output, count(op.shape)))]
    if op.code is Opcode.MATMUL_NT:
        return _matmul(op, inputs, output, scratch, choices)
    if op.code in (Opcode.SUM, Opcode.ROWMAX):
        return _reduction(op, inputs[0], output, scratch)
    return [_copying(op, position, inputs, output)]


def scratch_bytes(op: Op, choices: Choices) -> int:
    """Bytes of block sums that wait to be joined; 0 if the operation needs none."""
    return count(op.shape) * FLOAT_BYTES * layers if (layers := _layers(op, choices)) > 1 else 0


def _blocks(terms: int) -> int:
    return max(1, -(-terms // BLOCK))


def _layers(op: Op, choices: Choices) -> int:
    """Consensus blocks of each element that different threads make; 1 if one thread makes them all."""
    if count(op.shape) == 0:
        return 1
    if op.code in (Opcode.SUM, Opcode.ROWMAX):
        return _blocks(op.input_shapes[0][-1])
    if op.code is not Opcode.MATMUL_NT:
        return 1
    blocks = _blocks(op.input_shapes[0][-1])
    m, n = op.shape[-2:]
    matrices = count(op.shape) // (m * n)
    tiles = _tile(min(m, n), max(m, n), matrices, choices).count(min(m, n), max(m, n)) * matrices
    pays = tiles < choices.processors
    fits = blocks <= _MOST_LAYERS and blocks * count(op.shape) * FLOAT_BYTES <= choices.split_bytes
    return blocks if pays and fits else 1


def _tile(m: int, n: int, matrices: int, choices: Choices) -> Tile:
    """m is at most n: a product with more rows than columns is made as its transpose."""
    if choices.tile is not None:
        return choices.tile
    if m <= _SKINNY_ROWS:
        return SKINNY
    return LARGE if LARGE.count(m, n) * matrices >= choices.processors else MIDDLE


def _each(kernel: str, count_: int, words: tuple[Word, ...]) -> Launch:
    return Launch(kernel, (-(-count_ // _THREADS), 1), _THREADS, words)


def _matmul(op: Op, inputs: Sequence[Place], output: Place, scratch: Place | None, choices: Choices) -> list[Launch]:
    m, k = op.input_shapes[0][-2:]
    n = op.shape[-1]
    elements = count(op.shape)
    a, b = inputs
    row_step, column_step = n, 1
    if m > n:
        # fma(a, b, c) is fma(b, a, c), so rows and columns may change places.
        a, b, m, n, row_step, column_step = b, a, n, m, 1, n
    tile = _tile(m, n, elements // (m * n), choices)
    vector = int(k % 4 == 0 and a.offset % 16 == 0 and b.offset % 16 == 0)
    layers = _layers(op, choices)
    target = output if scratch is None else scratch
    grid = (tile.count(m, n) * (elements // (m * n)), layers)
    words = (a, b, target, m, n, k, row_step, column_step, vector, elements)
    product = Launch(tile.kernel, grid, tile.threads, words)
    return [product] if scratch is None else [product, _each("join_sum", elements, (scratch, output, elements, layers))]


def _reduction(op: Op, source: Place, output: Place, scratch: Place | None) -> list[Launch]:
    terms, rows = op.input_shapes[0][-1], count(op.shape)
    name = "sum" if op.code is Opcode.SUM else "maximum"
    blocks = _blocks(terms)
    chains = rows * blocks
    target = output if scratch is None else scratch
    grid = (-(-chains // _REDUCE_CHAINS), 1)
    reduce = Launch(f"reduce_{name}", grid, _REDUCE_CHAINS, (source, target, rows, terms, chains))
    return [reduce] if scratch is None else [reduce, _each(f"join_{name}", rows, (scratch, output, rows, blocks))]


def _copying(op: Op, position: int, inputs: Sequence[Place], output: Place) -> Launch:
    elements = count(op.shape)
    if op.code is Opcode.CONST:
        return _each("fill", elements, (output, op.parameters[0], elements))
    if op.code is Opcode.UNIFORM:
        return _each("uniform", -(-elements // 4), (output, *op.parameters, position, elements, STEP))
    if op.code is Opcode.VIEW:
        return _view(op, inputs[0], output)
    if op.code is Opcode.CONCAT:
        axis = op.parameters[0]
        left, right = (count(shape[axis:]) for shape in op.input_shapes)
        return _each("concat", elements, (*inputs, output, left, right, elements))
    table = op.input_shapes[0]
    return _each("gather", elements, (*inputs, output, *table, elements))


def _view(op: Op, source: Place, output: Place) -> Launch:
    offset, *strides = op.parameters
    rank = len(op.shape)
    dims = (1,) * (MAX_RANK - rank) + op.shape
    steps = (0,) * (MAX_RANK - rank) + tuple(strides[:rank])
    turned = steps[2] == 1 and steps[3] > 1 and min(dims[2:]) >= _TURN // 4
    if turned:
        tiles = -(-dims[2] // _TURN) * -(-dims[3] // _TURN)
        grid = (tiles * dims[0] * dims[1], 1)
        return Launch("view_turned", grid, _THREADS, (source, output, offset, *dims[1:], *steps[:2], steps[3]))
    return _each("view", count(op.shape), (source, output, count(op.shape), offset, *dims[1:], *steps))
