# SPDX-License-Identifier: Apache-2.0
"""What lies between the operands of a reduction and one element of it: sums and totals of blocks, accumulators of one.

The same bits as `reference.blocks`, but many blocks side by side: an element may have 2^31 terms.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from gpubond.exact import numpy_scalar, reference
from gpubond.exact.engine import Array
from gpubond.exact.float_environment import standard
from gpubond.exact.program import Op, Opcode
from gpubond.exact.reference import BLOCK, Blocks
from gpubond.exact.scalar import ONE

# Blocks side by side: what they hold of memory (8 MB an operand) does not grow with the number of terms.
_SIDE_BY_SIDE = 4096


def rows_of(op: Op, inputs: Sequence[Array], element: int) -> tuple[Array, ...]:
    """The terms of one element of a reduction: a row of each input, of rank 1; views where they lie so in memory."""
    count = reference.terms(op)
    if op.code is not Opcode.MATMUL_NT:
        return (_row(inputs[0], element, count),)
    rows, columns = op.shape[-2:]
    matrix, within = divmod(element, rows * columns)
    row, column = divmod(within, columns)
    return (
        _row(inputs[0], matrix * rows + row, count),
        _row(inputs[1], matrix * columns + column, count),
    )


def blocks_of(
    op: Op, inputs: Sequence[Array], element: int, watch: Callable[[int], object] = lambda done: None
) -> Blocks:
    """The sums and totals of one element of a reduction; both are empty if it has no terms.

    watch: is told how many blocks are done.
    """
    rows = rows_of(op, inputs, element)
    count = reference.terms(op)
    sums: list[int] = []
    for begin in range(0, count, BLOCK * _SIDE_BY_SIDE):
        some = [row[begin : begin + BLOCK * _SIDE_BY_SIDE] for row in rows]
        sums += _sums(op, some)
        watch(len(sums))
    totals = sums[:1]
    for block_sum in sums[1:]:
        totals.append(reference.join(op, totals[-1], block_sum))
    return Blocks(tuple(sums), tuple(totals))


def accumulators_of(op: Op, inputs: Sequence[Array], element: int, block: int, every: int) -> tuple[int, ...]:
    """The accumulator of a block of one element after each `every` terms, and after the last."""
    end = min((block + 1) * BLOCK, reference.terms(op))
    bits = [np.ascontiguousarray(array, np.float32).reshape(-1).view(np.uint32).data for array in inputs]
    accumulator = reference.identity(op)
    found = []
    for begin in range(block * BLOCK, end, every):
        accumulator = reference.take_terms(op, bits, element, begin, min(begin + every, end), accumulator)
        found.append(accumulator)
    return tuple(found)


def _row(array: Array, number: int, count: int) -> Array:
    return array.reshape(-1)[number * count : (number + 1) * count]


def _sums(op: Op, rows: Sequence[Array]) -> list[int]:
    """Of whole blocks, and of a shorter one at the end."""
    whole = len(rows[0]) // BLOCK
    found: list[int] = []
    if whole:
        found += _chains(op, [row[: whole * BLOCK].reshape(whole, BLOCK) for row in rows])
    if len(rows[0]) % BLOCK:
        found += _chains(op, [row[None, whole * BLOCK :] for row in rows])
    return found


def _chains(op: Op, rows: Sequence[Array]) -> list[int]:
    """The accumulator of each row after its last term."""
    height = len(rows[0])
    accumulators = _full(reference.identity(op), height)
    one = _full(ONE, height)
    columns = [np.ascontiguousarray(row.T, np.float32) for row in rows]
    with standard(), np.errstate(all="ignore"):
        for terms in zip(*columns, strict=True):
            if op.code is Opcode.ROWMAX:
                accumulators = numpy_scalar.maximum(accumulators, terms[0])
            else:
                accumulators = numpy_scalar.fma(terms[0], terms[1] if len(terms) > 1 else one, accumulators)
    return [int(bits) for bits in accumulators.view(np.uint32)]


def _full(bits: int, count: int) -> Array:
    return np.full(count, bits, np.uint32).view(np.float32)
