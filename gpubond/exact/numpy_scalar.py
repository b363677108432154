# SPDX-License-Identifier: Apache-2.0
"""The scalar operations of docs/exact.md over arrays, by NumPy alone: the same bits as gpubond/exact/scalar.py.

All take and give arrays of one dimension, and need the arithmetic that float_environment.standard() sees to.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from gpubond.exact.engine import Array
from gpubond.exact.scalar import (
    EXP_POLYNOMIAL,
    INFINITY,
    LOG_BASE,
    LOG_POLYNOMIAL,
    MINUS_INFINITY,
    NAN,
)

Doubles = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
# Below it a value of float32 has fewer bits.
LEAST_NORMAL = 2.0**-126
_SIGN = np.uint32(0x80000000)
# The bits of a float64 beyond those of a float32, and how they look halfway between two of these.
BEYOND = np.uint64((1 << 29) - 1)
HALFWAY = np.uint64(1 << 28)


def bits(values: Array) -> npt.NDArray[np.uint32]:
    return values.view(np.uint32)


def value(of: int) -> np.float32:
    """The value of these bits."""
    return np.float32(np.uint32(of).view(np.float32))


def canonical(values: Array) -> Array:
    """Every NaN becomes the canonical one, in place."""
    bits(values)[np.isnan(values)] = NAN
    return values


def fma(a: Array, b: Array, c: Array) -> Array:
    """a * b + c, rounded once."""
    product: Doubles = np.multiply(a, b, dtype=np.float64)  # exact: 48 bits, and no exponent too far
    return canonical(rounded_sum(product, c.astype(np.float64)))


def rounded_sum(product: Doubles, addend: Doubles) -> Array:
    """product + addend, rounded once, to float32; NaN may be any."""
    total = product + addend
    result = total.astype(np.float32)
    # Rounding to float64 before misleads only halfway between two values of float32, and where these have fewer bits.
    doubtful = total.view(np.uint64) & BEYOND == HALFWAY
    doubtful |= (np.abs(total) < LEAST_NORMAL) & (total != 0)
    if doubtful.any():
        result[doubtful] = sum_by_odd(product[doubtful], addend[doubtful])
    return result


def sum_by_odd(product: Doubles, addend: Doubles) -> Array:
    """As rounded_sum, by way of a float64 rounded to odd, which keeps what a second rounding has to know."""
    total = product + addend
    back = total - product
    error = (product - (total - back)) + (addend - back)  # TwoSum: exact
    inexact = np.isfinite(total) & (error != 0)
    pattern = total.view(np.int64)
    away = (error > 0) == (total > 0)
    pattern += np.where(inexact & (pattern & 1 == 0), np.where(away, 1, -1), 0)
    return total.astype(np.float32)


def add(a: Array, b: Array) -> Array:
    return canonical(a + b)


def sub(a: Array, b: Array) -> Array:
    return canonical(a - b)


def mul(a: Array, b: Array) -> Array:
    return canonical(a * b)


def div(a: Array, b: Array) -> Array:
    return canonical(a / b)


def sqrt(a: Array) -> Array:
    return canonical(np.sqrt(a))


def neg(a: Array) -> Array:
    return canonical((bits(a) ^ _SIGN).view(np.float32))


def gt(a: Array, b: Array) -> Array:
    return (a > b).astype(np.float32)


def maximum(a: Array, b: Array) -> Array:
    larger = np.where(a > b, bits(a), bits(b))
    larger[np.isnan(a) | np.isnan(b)] = NAN
    return larger.view(np.float32)


def select(c: Array, a: Array, b: Array) -> Array:
    return np.where(bits(c) & ~_SIGN != 0, bits(a), bits(b)).view(np.float32)


def bf16(a: Array) -> Array:
    pattern = bits(a)
    rounded = (pattern + np.uint32(0x7FFF) + (pattern >> np.uint32(16) & np.uint32(1))) & np.uint32(0xFFFF0000)
    rounded[np.isnan(a)] = NAN
    return rounded.view(np.float32)


def exp(x: Array) -> Array:
    above, below, nan = x > np.float32(89), x < np.float32(-104), np.isnan(x)
    x = np.where(above | below | nan, np.float32(0), x)
    shift = _like(x, 0x4B400000)
    n = fma(x, _like(x, 0x3FB8AA3B), shift) - shift
    r = fma(n, _like(x, 0x395E8083), fma(n, _like(x, 0xBF318000), x))
    y = fma(_polynomial(EXP_POLYNOMIAL, r), r * r, r) + np.float32(1)
    k = n.astype(np.int32)
    h = k >> 1
    result = y * _power_of_two(h) * _power_of_two(k - h)
    for mask, wanted in ((above, INFINITY), (below, 0), (nan, NAN)):
        bits(result)[mask] = wanted
    return result


def log(x: Array) -> Array:
    zero, infinite, nan = x == 0, x == np.inf, (x < 0) | np.isnan(x)
    x = np.where(zero | infinite | nan, np.float32(1), x)
    subnormal = x < np.float32(LEAST_NORMAL)
    x = np.where(subnormal, x * np.float32(2.0**23), x)
    i = x.view(np.int32) - np.int32(LOG_BASE)
    e = ((i >> 23) - np.where(subnormal, np.int32(23), np.int32(0))).astype(np.float32)
    f = ((i & np.int32(0x7FFFFF)) + np.int32(LOG_BASE)).view(np.float32) - np.float32(1)
    z = f * f
    y = _polynomial(LOG_POLYNOMIAL, f) * (f * z)
    y = fma(e, _like(x, 0xB95E8083), y)
    y = fma(z, _like(x, 0xBF000000), y)
    result = fma(e, _like(x, 0x3F318000), f + y)
    for mask, wanted in ((zero, MINUS_INFINITY), (infinite, INFINITY), (nan, NAN)):
        bits(result)[mask] = wanted
    return result


def _like(x: Array, pattern: int) -> Array:
    return np.full(x.shape, value(pattern), dtype=np.float32)


def _polynomial(coefficients: tuple[int, ...], x: Array) -> Array:
    p = _like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        p = fma(p, x, _like(x, coefficient))
    return p


def _power_of_two(exponent: npt.NDArray[np.int32]) -> Array:
    return (exponent + np.int32(127) << np.int32(23)).view(np.float32)


# By their names in docs/exact.md.
OPERATIONS: dict[str, Callable[..., Array]] = {
    "add": add,
    "sub": sub,
    "mul": mul,
    "div": div,
    "max": maximum,
    "gt": gt,
    "fma": fma,
    "select": select,
    "sqrt": sqrt,
    "neg": neg,
    "exp": exp,
    "log": log,
    "bf16": bf16,
}
