# SPDX-License-Identifier: Apache-2.0
"""Operands to try implementations with: special values, and random ones of the kinds where rounding goes wrong."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Bits = npt.NDArray[np.uint32]

_MAGNITUDES = (
    0x00000000,  # 0
    0x00000001,  # the least subnormal
    0x00000002,
    0x00000003,
    0x00400000,  # the middle of the subnormals
    0x007FFFFF,  # the largest subnormal
    0x00800000,  # the least normal
    0x00800001,
    0x01000000,
    0x1F800000,  # 2^-64: its square is subnormal or less
    0x1FC00001,
    0x33000000,  # 2^-25: a quarter of a unit beside 1
    0x33800000,  # 2^-24: half a unit
    0x33800001,
    0x34000000,  # 2^-23: the unit
    0x3EAAAAAB,  # a third
    0x3F000000,  # a half
    0x3F7FFFFF,  # before 1
    0x3F800000,  # 1
    0x3F800001,
    0x3FC00000,  # 1.5
    0x40000000,  # 2
    0x42B20000,  # 89: exp is infinite beyond
    0x42D00000,  # 104: exp of its negative
    0x4B000000,  # 2^23
    0x4B800001,  # beyond 2^24, where integers have gaps
    0x5F7FFFFF,  # before 2^64: its square is just finite
    0x5F800000,  # 2^64
    0x7F7FFFFF,  # the largest
    0x7F800000,  # infinity
    0x7FC00000,  # NaN; negative, it is not the canonical one
)
# 64 values; the last two are NaN that signal, or would.
SPECIAL: tuple[int, ...] = (*(sign | of for of in _MAGNITUDES for sign in (0, 0x80000000)), 0x7F800001, 0xFFBFFFFF)

SIGN = np.uint32(0x80000000)


def canonical(bits: Bits) -> Bits:
    """As tensors that come from outside must be: every NaN the canonical one."""
    return np.where(bits & ~SIGN > np.uint32(0x7F800000), np.uint32(0x7FC00000), bits)


def operands(name: str, count: int, seed: int) -> list[Bits]:
    """`count` operands of the scalar operation of this name, an array for each place; the same ones every time."""
    generator = np.random.RandomState([seed, *name.encode()])  # its numbers are the same in every release
    arity = {"fma": 3, "select": 3, "sqrt": 1, "neg": 1, "exp": 1, "log": 1, "bf16": 1}.get(name, 2)
    kinds: list[Callable[[np.random.RandomState, int, int], list[Bits]]] = [_any, _special, _alike]
    kinds += {1: [_squares, _halves], 2: [_quotients, _ties_of_sums, _low, _small_integers]}.get(arity, [])
    kinds += [_cancelling, _ties, _subnormal, _overflowing, _small_integers] if arity == 3 else []
    share = -(-count // len(kinds))
    parts = [kind(generator, arity, share) for kind in kinds]
    return [np.concatenate([part[place] for part in parts])[:count] for place in range(arity)]


def around_zero(generator: np.random.RandomState, *shape: int) -> npt.NDArray[np.float64]:
    """Between -2 and 2, less often at the ends; by exact operations alone, so the same on every machine."""
    return np.asarray(2 * (generator.random_sample(shape) - generator.random_sample(shape)), dtype=np.float64)


def _random_bits(generator: np.random.RandomState, count: int) -> Bits:
    return generator.randint(0, 1 << 32, count, dtype=np.uint32)


def _around(generator: np.random.RandomState, count: int, low: int, high: int) -> Bits:
    """Any sign and fraction, exponent fields from low to high."""
    exponents = generator.randint(low, high + 1, count, dtype=np.uint32)
    return _random_bits(generator, count) & np.uint32(0x807FFFFF) | exponents << np.uint32(23)


def _nudged(generator: np.random.RandomState, bits: Bits) -> Bits:
    """A few units off."""
    return (bits.astype(np.int64) + generator.randint(-2, 3, len(bits))).astype(np.uint32)


def _single(values: npt.NDArray[np.float64]) -> Bits:
    with np.errstate(all="ignore"):
        return values.astype(np.float32).view(np.uint32)


def _doubles(bits: Bits) -> npt.NDArray[np.float64]:
    with np.errstate(invalid="ignore"):  # NaN that signal
        return bits.view(np.float32).astype(np.float64)


def _any(generator: np.random.RandomState, arity: int, count: int) -> list[Bits]:
    return [_random_bits(generator, count) for _ in range(arity)]


def _special(generator: np.random.RandomState, arity: int, count: int) -> list[Bits]:
    """Special ones beside random ones."""
    chosen = [generator.choice(np.array(SPECIAL, dtype=np.uint32), count) for _ in range(arity)]
    return [np.where(generator.random_sample(count) < 0.6, one, _random_bits(generator, count)) for one in chosen]


def _alike(generator: np.random.RandomState, arity: int, count: int) -> list[Bits]:
    return [_around(generator, count, 118, 136) for _ in range(arity)]


def _cancelling(generator: np.random.RandomState, arity: int, count: int) -> list[Bits]:
    """c is close to -a * b."""
    a, b = _around(generator, count, 70, 180), _around(generator, count, 70, 180)
    return [a, b, _nudged(generator, _single(-_doubles(a) * _doubles(b)))]


def _ties(generator: np.random.RandomState, arity: int, count: int) -> list[Bits]:
    """a * b is halfway between two values, and c is 0 or very little: what double rounding gets wrong."""
    exponent = generator.randint(100, 140, count, dtype=np.uint32) << np.uint32(23)
    odd = (generator.randint(0, 1 << 11, count) << 1 | 1).astype(np.float64)
    other = (generator.randint(1 << 12, 1 << 13, count) << 1 | 1).astype(np.float64)
    a, b = _single(odd) + exponent - np.uint32(127 << 23), _single(other)
    tiny = _around(generator, count, 1, 90)
    return [a, b, np.where(generator.random_sample(count) < 0.2, np.uint32(0), tiny)]


def _subnormal(generator: np.random.RandomState, arity: int, count: int) -> list[Bits]:
    """The product is about the least normal value or far below, and so is c."""
    a = _around(generator, count, 30, 100)
    target = np.ldexp(generator.choice([1.0, 1.5, 1.25, 1.1], count), generator.randint(-155, -122, count))
    b = _nudged(generator, _single(target / _doubles(a)))
    c = _random_bits(generator, count) & np.uint32(0x80FFFFFF) >> np.uint32(8) | _random_bits(generator, count) & SIGN
    return [a, b, c]


def _overflowing(generator: np.random.RandomState, arity: int, count: int) -> list[Bits]:
    """The result is about the largest value."""
    a = _around(generator, count, 127, 200)
    b = _nudged(generator, _single(2.0**128 / _doubles(a)))
    return [a, b, _around(generator, count, 225, 254)]


def _small_integers(generator: np.random.RandomState, arity: int, count: int) -> list[Bits]:
    return [_single(generator.randint(-9, 10, count).astype(np.float64)) for _ in range(arity)]


def _squares(generator: np.random.RandomState, arity: int, count: int) -> list[Bits]:
    """Squares of few bits and their neighbours; a third is subnormal."""
    roots = generator.randint(1, 1 << 12, count).astype(np.float64)
    squares = _nudged(generator, _single(np.ldexp(roots * roots, generator.randint(-120, 90, count))))
    return [np.where(generator.random_sample(count) < 0.3, squares & np.uint32(0x007FFFFF), squares)]


def _halves(generator: np.random.RandomState, arity: int, count: int) -> list[Bits]:
    """The lower 16 bits are about half of what they can be: ties of bf16."""
    upper = _random_bits(generator, count) & np.uint32(0xFFFF0000)
    return [_nudged(generator, upper | np.uint32(0x8000))]


def _quotients(generator: np.random.RandomState, arity: int, count: int) -> list[Bits]:
    """a is close to q * b: the quotient is close to one of few bits, often a subnormal one or close to overflow."""
    b = _around(generator, count, 1, 254)
    q = _doubles(_around(generator, count, 100, 154) & np.uint32(0xFFFFF000))
    far = generator.choice([0, -100, -126, -140, 100, 127], count)
    return [_nudged(generator, _single(np.ldexp(q, far) * _doubles(b))), b]


def _low(generator: np.random.RandomState, arity: int, count: int) -> list[Bits]:
    """Subnormal, or not far above."""
    return [_around(generator, count, 0, 2) for _ in range(arity)]


def _ties_of_sums(generator: np.random.RandomState, arity: int, count: int) -> list[Bits]:
    """b is half a unit of a, about."""
    a = _around(generator, count, 30, 250)
    half = (a & np.uint32(0x7F800000)) - np.uint32(24 << 23)
    return [a, _nudged(generator, half) | _random_bits(generator, count) & SIGN]


def tensor(seed: int, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """Elements for a program: special values, small integers, ordinary and any; NaN only as the canonical one."""
    generator = np.random.RandomState(seed & 0xFFFFFFFF)
    count = int(np.prod(shape, dtype=np.int64))
    integers = _single(generator.randint(-2, 8, count).astype(np.float64))
    ordinary = _single(around_zero(generator, count))
    special = generator.choice(np.array(SPECIAL, dtype=np.uint32), count)
    choices = np.stack([integers, ordinary, special, _random_bits(generator, count)])
    weights = ((1, 0, 0, 0), (0, 1, 0, 0), (0.3, 0.4, 0.2, 0.1), (0, 0, 1, 0), (0, 0, 0, 1), (0.5, 0.49, 0.01, 0))
    chosen = generator.choice(4, count, p=weights[generator.randint(len(weights))])
    return canonical(choices[chosen, np.arange(count)]).view(np.float32).reshape(shape)
