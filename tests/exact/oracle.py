# SPDX-License-Identifier: Apache-2.0
"""What scalar operations must give, by means that share nothing with gpubond/exact: fractions and glibc."""

from __future__ import annotations

import ctypes
import math
import struct
from collections.abc import Callable
from fractions import Fraction

NAN = 0x7FC00000
_LARGEST = (2 - Fraction(1, 2**23)) * 2**127

libm = ctypes.CDLL("libm.so.6")
libm.fmaf.restype = libm.sqrtf.restype = ctypes.c_float
libm.fmaf.argtypes = [ctypes.c_float] * 3
libm.sqrtf.argtypes = [ctypes.c_float]


def to_float(bits: int) -> float:
    return float(struct.unpack("<f", struct.pack("<I", bits))[0])


def to_bits(value: float) -> int:
    """Of a float that a binary32 holds."""
    return NAN if math.isnan(value) else int(struct.unpack("<I", struct.pack("<f", value))[0])


def glibc_fma(a: int, b: int, c: int) -> int:
    return to_bits(libm.fmaf(to_float(a), to_float(b), to_float(c)))


def glibc_sqrt(a: int) -> int:
    return to_bits(libm.sqrtf(to_float(a)))


def rounded(exact: Fraction, negative_zero: bool = False) -> int:
    """The nearest value's bits, ties to even: of the two around, by their distances."""
    if exact == 0:
        return 0x80000000 if negative_zero else 0
    sign, size = (0x80000000, -exact) if exact < 0 else (0, exact)
    if size >= _LARGEST + Fraction(2) ** 103:
        return sign | 0x7F800000
    low = to_bits(min(float(size), to_float(0x7F7FFFFF)))  # about right
    if Fraction(to_float(low)) > size:
        low -= 1
    below, above = Fraction(to_float(low)), _fraction(low + 1)
    assert below <= size < above
    if size - below > above - size or (size - below == above - size and low & 1):
        low += 1
    return sign | low


def _fraction(bits: int) -> Fraction:
    return Fraction(2) ** 128 if bits == 0x7F800000 else Fraction(to_float(bits))


def fma(a: int, b: int, c: int) -> int:
    """By IEEE 754's words: infinities and zeros by their signs, the rest exactly."""
    x, y, z = to_float(a), to_float(b), to_float(c)
    if math.isfinite(x) and math.isfinite(y) and math.isfinite(z):
        exact = Fraction(x) * Fraction(y)
        both_negative = math.copysign(1, x) * math.copysign(1, y) < 0 and math.copysign(1, z) < 0
        # Only two terms that are both negative zeros give one: others that cancel give +0.
        return rounded(exact + Fraction(z), both_negative and exact == 0)
    return to_bits(_product(x, y) + z)


def _product(x: float, y: float) -> float:
    """For a sum with something that is not finite: a finite product's size does not count."""
    return x * y if not (math.isfinite(x) and math.isfinite(y)) else math.copysign(0, x) * math.copysign(1, y)


def add(a: int, b: int) -> int:
    x, y = to_float(a), to_float(b)
    if math.isfinite(x) and math.isfinite(y):
        return rounded(Fraction(x) + Fraction(y), a == b == 0x80000000)
    return to_bits(x + y)


def sub(a: int, b: int) -> int:
    return add(a, b ^ 0x80000000)


def mul(a: int, b: int) -> int:
    x, y = to_float(a), to_float(b)
    if math.isfinite(x) and math.isfinite(y):
        exact = Fraction(x) * Fraction(y)
        sign = (a ^ b) & 0x80000000
        return rounded(exact) | sign
    return to_bits(x * y)


def div(a: int, b: int) -> int:
    x, y = to_float(a), to_float(b)
    sign = (a ^ b) & 0x80000000
    if math.isnan(x) or math.isnan(y) or x == y == 0 or (math.isinf(x) and math.isinf(y)):
        return NAN
    if y == 0 or math.isinf(x):
        return sign | 0x7F800000
    if math.isinf(y):
        return sign
    return rounded(Fraction(x) / Fraction(y)) | sign


def sqrt(a: int) -> int:
    """The value whose neighbourhood's bounds, squared, have a between them."""
    x = to_float(a)
    if x == 0 or math.isnan(x) or x < 0 or math.isinf(x):
        return a if x == 0 or x > 0 else NAN
    guess = to_bits(math.sqrt(x))
    for found in (guess - 1, guess, guess + 1):
        middle = (Fraction(to_float(found)) + Fraction(to_float(found - 1))) / 2
        next_middle = (Fraction(to_float(found)) + Fraction(to_float(found + 1))) / 2
        # A root of 24 bits is never halfway: the square of 25 bits, the last one set, has more than 24.
        if middle**2 < Fraction(x) < next_middle**2:
            return found
    raise AssertionError(f"no root of {a:#010x}")


def greater(a: int, b: int) -> int:
    return 0x3F800000 if to_float(a) > to_float(b) else 0


def larger(a: int, b: int) -> int:
    x, y = to_float(a), to_float(b)
    return NAN if math.isnan(x) or math.isnan(y) else a if x > y else b


def select(c: int, a: int, b: int) -> int:
    return b if c in (0, 0x80000000) else a


def neg(a: int) -> int:
    return NAN if math.isnan(to_float(a)) else to_bits(-to_float(a))


def bf16(a: int) -> int:
    """The nearer of the two values of 16 bits around; the even one of two as near."""
    x = to_float(a)
    if math.isnan(x):
        return NAN
    if math.isinf(x):
        return a
    low = a & 0xFFFF0000
    high = low + 0x10000
    below, above = abs(Fraction(to_float(low))), _fraction(high & 0x7FFFFFFF)
    size = abs(Fraction(x))
    if size - below == above - size:
        return high if low & 0x10000 else low
    return low if size - below < above - size else high


ORACLES: dict[str, Callable[..., int]] = {
    "fma": fma,
    "add": add,
    "sub": sub,
    "mul": mul,
    "div": div,
    "sqrt": sqrt,
    "gt": greater,
    "max": larger,
    "select": select,
    "neg": neg,
    "bf16": bf16,
}
