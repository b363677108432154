# SPDX-License-Identifier: Apache-2.0
"""Philox 4x32-10 (Salmon et al., 2011) and the random numbers made of it (docs/exact.md, section 1)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

ROUNDS = 10
_MULTIPLIER_0, _MULTIPLIER_1 = 0xD2511F53, 0xCD9E8D57
_WEYL_0, _WEYL_1 = 0x9E3779B9, 0xBB67AE85
_WORD = 0xFFFFFFFF

Words = tuple[int, int, int, int]
Vector = npt.NDArray[np.uint64]


def philox(key: tuple[int, int], counter: Words) -> Words:
    """The four words that the counter gives; all are of 32 bits."""
    (k0, k1), (c0, c1, c2, c3) = key, counter
    for _ in range(ROUNDS):
        product_0, product_1 = _MULTIPLIER_0 * c0, _MULTIPLIER_1 * c2
        c0, c1, c2, c3 = (
            product_1 >> 32 ^ c1 ^ k0,
            product_1 & _WORD,
            product_0 >> 32 ^ c3 ^ k1,
            product_0 & _WORD,
        )
        k0, k1 = k0 + _WEYL_0 & _WORD, k1 + _WEYL_1 & _WORD
    return c0, c1, c2, c3


def uniform(key: tuple[int, int], step: int, op: int, element: int) -> int:
    """The bits of the value, from 0 to 1 without 1. op: the operation's position, from 0."""
    counter = (element // 4, op, step & _WORD, step >> 32 & _WORD)
    top = philox(key, counter)[element % 4] >> 8
    if top == 0:
        return 0
    # top * 2^-24, of at most 24 bits: exact.
    shift = 24 - top.bit_length()
    return (126 - shift << 23) + ((top << shift) - (1 << 23))


def philox_many(key: tuple[int, int], counter: tuple[Vector, Vector, Vector, Vector]) -> npt.NDArray[np.uint32]:
    """`philox` of many counters (of 32 bits each, in words of 64): an array of [counters, 4]."""
    (k0, k1), (c0, c1, c2, c3) = key, counter
    low, up = np.uint64(_WORD), np.uint64(32)
    for _ in range(ROUNDS):
        product_0, product_1 = np.uint64(_MULTIPLIER_0) * c0, np.uint64(_MULTIPLIER_1) * c2
        c0, c1, c2, c3 = (
            product_1 >> up ^ c1 ^ np.uint64(k0),
            product_1 & low,
            product_0 >> up ^ c3 ^ np.uint64(k1),
            product_0 & low,
        )
        k0, k1 = k0 + _WEYL_0 & _WORD, k1 + _WEYL_1 & _WORD
    return np.stack([c0, c1, c2, c3], axis=-1).astype(np.uint32)


def uniform_many(key: tuple[int, int], step: int, op: int, count: int, first: int = 0) -> npt.NDArray[np.float32]:
    """`uniform` of the elements first, first + 1, …, `count` of them."""
    begin, end = first // 4, (first + count + 3) // 4
    blocks = np.arange(begin, end, dtype=np.uint64)
    fixed = [np.full_like(blocks, word) for word in (op, step & _WORD, step >> 32 & _WORD)]
    words = philox_many(key, (blocks, fixed[0], fixed[1], fixed[2])).reshape(-1)
    top = words[first - 4 * begin :][:count] >> np.uint32(8)
    # Both are exact, and neither gives a subnormal.
    return top.astype(np.float32) * np.float32(2.0**-24)
