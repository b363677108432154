# SPDX-License-Identifier: Apache-2.0
"""The reductions of docs/exact.md by NumPy alone: many chains side by side, each in its order."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gpubond.exact.engine import Array
from gpubond.exact.numpy_scalar import (
    BEYOND,
    HALFWAY,
    LEAST_NORMAL,
    canonical,
    maximum,
    sum_by_odd,
    value,
)
from gpubond.exact.reference import BLOCK
from gpubond.exact.scalar import MINUS_INFINITY, NAN

# Of the output, so that a tile's products and accumulators stay in the cache.
_TILE_ROWS, _TILE_COLUMNS = 64, 256
_CHAINS = 1024  # sums side by side
_ELEMENTS = 1 << 18  # of rows whose maxima are sought at a time


def matmul(left: Array, right: Array) -> Array:
    """[…, m, k] and [..., n, k] to [..., m, n]."""
    rows, terms = left.shape[-2:]
    columns = right.shape[-2]
    output = np.zeros((*left.shape[:-1], columns), dtype=np.float32)
    if output.size == 0 or terms == 0:
        return output
    lefts, rights = left.reshape(-1, rows, terms), right.reshape(-1, columns, terms)
    for matrix, a, b in zip(output.reshape(-1, rows, columns), lefts, rights, strict=True):
        for top in range(0, rows, _TILE_ROWS):
            for side in range(0, columns, _TILE_COLUMNS):
                tile = matrix[top : top + _TILE_ROWS, side : side + _TILE_COLUMNS]
                _dots(a[top : top + _TILE_ROWS], b[side : side + _TILE_COLUMNS], tile)
    return output


def _dots(a: Array, b: Array, output: Array) -> None:
    """The dot of each row of a with each of b."""
    tile = _Tile(output.shape)
    for begin in range(0, a.shape[1], BLOCK):
        sums = tile.block(a[:, begin : begin + BLOCK], b[:, begin : begin + BLOCK])
        if begin:
            output += sums
        else:
            output[...] = sums
    canonical(output)


class _Tile:
    """Room for the accumulators of a tile, and what one micro-step of all of them needs."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._sums = np.empty(shape, dtype=np.float32)
        self._wide = np.empty(shape, dtype=np.float64)
        self._products = np.empty(shape, dtype=np.float64)
        self._totals = np.empty(shape, dtype=np.float64)
        self._tail = np.empty(shape, dtype=np.uint64)
        self._doubtful = np.empty(shape, dtype=np.bool_)

    def block(self, a: Array, b: Array) -> Array:
        """The sums of one block; NaN may be any. The array is only good until the next call."""
        may_be_small = _least_unit(a) * _least_unit(b) < LEAST_NORMAL
        left = np.ascontiguousarray(a.T).astype(np.float64)[:, :, None]
        right = np.ascontiguousarray(b.T).astype(np.float64)[:, None, :]
        wide, products, totals = self._wide, self._products, self._totals
        wide[...] = 0
        for column, row in zip(left, right, strict=True):
            np.multiply(column, row, out=products)
            np.add(products, wide, out=totals)
            np.copyto(self._sums, totals, casting="same_kind")
            doubtful = self._doubt(may_be_small)
            if doubtful.any():
                self._sums[doubtful] = sum_by_odd(products[doubtful], wide[doubtful])
            np.copyto(wide, self._sums)
        return self._sums

    def _doubt(self, may_be_small: bool) -> npt.NDArray[np.bool_]:
        """Where rounding totals to float32 may not give what rounding once does; see rounded_sum."""
        np.bitwise_and(self._totals.view(np.uint64), BEYOND, out=self._tail)
        np.equal(self._tail, HALFWAY, out=self._doubtful)
        if may_be_small:
            self._doubtful |= (np.abs(self._totals) < LEAST_NORMAL) & (self._totals != 0)
        return self._doubtful


def _least_unit(values: Array) -> float:
    """A power of two that every finite value is a multiple of.

    Sums of products are multiples of the product of two such, and so not small unless they are zero.
    """
    pattern = values.view(np.uint32) & np.uint32(0x7FFFFFFF)
    magnitudes = pattern[pattern != 0]
    exponent = max(int(magnitudes.min()) >> 23, 1) if magnitudes.size else 0xFF
    return float(2.0 ** (exponent - 150))


def sums(values: Array) -> Array:
    """Along the last dimension."""
    shape, terms = values.shape[:-1], values.shape[-1]
    output = np.zeros(shape, dtype=np.float32)
    if output.size == 0 or terms == 0:
        return output
    found = output.reshape(-1)
    rows = values.reshape(-1, terms)
    height = max(1, _CHAINS * BLOCK // terms)
    for begin in range(0, len(rows), height):
        found[begin : begin + height] = _row_sums(rows[begin : begin + height])
    return canonical(found).reshape(shape)


def _row_sums(rows: Array) -> Array:
    """The sum of each row; NaN may be any."""
    terms = rows.shape[1]
    whole = terms // BLOCK
    parts = np.empty((len(rows), -(-terms // BLOCK)), dtype=np.float32)
    if whole:
        parts[:, :whole] = _chains(rows[:, : whole * BLOCK].reshape(-1, BLOCK)).reshape(-1, whole)
    if terms % BLOCK:
        parts[:, whole] = _chains(rows[:, whole * BLOCK :])
    totals = parts[:, 0].copy()
    for part in parts.T[1:]:
        totals += part
    return totals


def _chains(values: Array) -> Array:
    """The sum of each row, in order, from +0."""
    output = np.zeros(len(values), dtype=np.float32)
    for begin in range(0, len(values), _CHAINS):
        accumulators = output[begin : begin + _CHAINS]
        for terms in np.ascontiguousarray(values[begin : begin + _CHAINS].T):
            accumulators += terms
    return output


def maxima(values: Array) -> Array:
    """Along the last dimension. Of equal values the last one counts, which tells between zeros."""
    shape, terms = values.shape[:-1], values.shape[-1]
    output = np.full(shape, value(MINUS_INFINITY), dtype=np.float32)
    if output.size == 0 or terms == 0:
        return output
    found = output.reshape(-1)
    rows = values.reshape(-1, terms)
    height = max(1, _ELEMENTS // terms)
    for begin in range(0, len(rows), height):
        part = slice(begin, begin + height)
        for side in range(0, terms, _ELEMENTS):
            found[part] = maximum(found[part], _row_maxima(rows[part, side : side + _ELEMENTS]))
    return output


def _row_maxima(rows: Array) -> Array:
    largest = rows.max(axis=1)
    last = rows.shape[1] - 1 - np.argmax((rows == largest[:, None])[:, ::-1], axis=1)
    chosen: Array = rows[np.arange(len(rows)), last]
    chosen.view(np.uint32)[np.isnan(largest)] = NAN
    return chosen
