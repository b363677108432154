# SPDX-License-Identifier: Apache-2.0
"""The scalar operations of docs/exact.md, section 1, on the 32 bits of a value, by exact integers alone.

Slow and obvious: what the fast implementations are held against. Every function is total: it takes whatever 32 bits.
"""

from __future__ import annotations

import math
from collections.abc import Callable

NAN = 0x7FC00000
INFINITY = 0x7F800000
MINUS_INFINITY = 0xFF800000
ONE = 0x3F800000
MINUS_ONE = 0xBF800000
MINUS_ZERO = 0x80000000
_SIGN = 0x80000000
_MAGNITUDE = 0x7FFFFFFF
_LEAST_EXPONENT = -149  # of the unit of subnormals
_PRECISION = 24

EXP_POLYNOMIAL = (0x39506967, 0x3AB743CE, 0x3C088908, 0x3D2AA9C1, 0x3E2AAAAA, 0x3F000000)
LOG_POLYNOMIAL = (
    0x3D9021BB,
    0xBDEBD1B8,
    0x3DEF251A,
    0xBDFE5D4F,
    0x3E11E9BF,
    0xBE2AAE50,
    0x3E4CCEAC,
    0xBE7FFFFC,
    0x3EAAAAAA,
)
LOG_BASE = 0x3F3504F3  # the square root of one half


def is_nan(a: int) -> bool:
    return a & _MAGNITUDE > INFINITY


def _is_infinite(a: int) -> bool:
    return a & _MAGNITUDE == INFINITY


def _is_zero(a: int) -> bool:
    return a & _MAGNITUDE == 0


def _parts(a: int) -> tuple[int, int]:
    """A finite value as (m, e): it is m * 2^e, m with the sign."""
    exponent, fraction = a >> 23 & 0xFF, a & 0x7FFFFF
    magnitude = fraction | 1 << 23 if exponent else fraction
    return -magnitude if a & _SIGN else magnitude, max(exponent, 1) + _LEAST_EXPONENT - 1


def _rounded(sign: int, magnitude: int, exponent: int) -> int:
    """The bits of magnitude * 2^exponent, rounded to nearest, ties to even; sign is 0 or _SIGN."""
    unit = max(exponent + magnitude.bit_length() - _PRECISION, _LEAST_EXPONENT)
    shift = unit - exponent
    if shift <= 0:
        kept = magnitude << -shift
    else:
        kept, rest, half = magnitude >> shift, magnitude & (1 << shift) - 1, 1 << shift - 1
        if rest > half or (rest == half and kept & 1):
            kept += 1
    # A normal number's leading bit adds the 1 that its exponent field has more than that of subnormals.
    return sign | min(kept + (unit - _LEAST_EXPONENT << 23), INFINITY)


def fma(a: int, b: int, c: int) -> int:
    """a * b + c, rounded once."""
    sign = (a ^ b) & _SIGN
    if is_nan(a) or is_nan(b) or is_nan(c):
        return NAN
    if _is_infinite(a) or _is_infinite(b):
        opposed = _is_infinite(c) and c & _SIGN != sign
        return NAN if _is_zero(a) or _is_zero(b) or opposed else sign | INFINITY
    if _is_infinite(c):
        return c
    (m_a, e_a), (m_b, e_b), (m_c, e_c) = _parts(a), _parts(b), _parts(c)
    exponent = min(e_a + e_b, e_c)
    total = (m_a * m_b << e_a + e_b - exponent) + (m_c << e_c - exponent)
    if total == 0:
        # Two zeros, or two that cancel: only two negative zeros give -0.
        return sign & c & _SIGN if _is_zero(c) else 0
    return _rounded(_SIGN if total < 0 else 0, abs(total), exponent)


def add(a: int, b: int) -> int:
    return fma(a, ONE, b)


def sub(a: int, b: int) -> int:
    return fma(b, MINUS_ONE, a)


def mul(a: int, b: int) -> int:
    return fma(a, b, MINUS_ZERO)


def div(a: int, b: int) -> int:
    """a / b, rounded once."""
    sign = (a ^ b) & _SIGN
    if is_nan(a) or is_nan(b) or (_is_zero(a) and _is_zero(b)) or (_is_infinite(a) and _is_infinite(b)):
        return NAN
    if _is_infinite(a) or _is_zero(b):
        return sign | INFINITY
    if _is_zero(a) or _is_infinite(b):
        return sign
    (m_a, e_a), (m_b, e_b) = _parts(a), _parts(b)
    quotient, rest = divmod(abs(m_a) << 64, abs(m_b))
    # The last bit says that there is more, far below all that rounding looks at.
    return _rounded(sign, quotient << 1 | (rest != 0), e_a - e_b - 65)


def sqrt(a: int) -> int:
    """The square root, rounded once."""
    if is_nan(a):
        return NAN
    if _is_zero(a) or a == INFINITY:
        return a
    if a & _SIGN:
        return NAN
    magnitude, exponent = _parts(a)
    shift = 64 + (exponent & 1)
    square = magnitude << shift
    root = math.isqrt(square)
    return _rounded(0, root << 1 | (root * root != square), (exponent - shift) // 2 - 1)


def neg(a: int) -> int:
    return NAN if is_nan(a) else a ^ _SIGN


def _above(a: int, b: int) -> bool:
    """a > b; false with NaN."""
    if is_nan(a) or is_nan(b):
        return False
    return _order(a) > _order(b)


def _order(a: int) -> int:
    """Sorts as the values do; both zeros are 0."""
    return -(a & _MAGNITUDE) if a & _SIGN else a


def gt(a: int, b: int) -> int:
    """1.0 if a > b, else +0."""
    return ONE if _above(a, b) else 0


def maximum(a: int, b: int) -> int:
    """`max` of docs/exact.md: NaN wins; b for equal values, so of two zeros the second."""
    if is_nan(a) or is_nan(b):
        return NAN
    return a if _above(a, b) else b


def select(c: int, a: int, b: int) -> int:
    """a unless c is a zero; copies bits."""
    return b if _is_zero(c) else a


def bf16(a: int) -> int:
    """Rounded to the nearest of 16 bits, ties to even."""
    return NAN if is_nan(a) else (a + 0x7FFF + (a >> 16 & 1)) & 0xFFFF0000


def power_of_two(exponent: int) -> int:
    """2^exponent; normal ones only."""
    if not -126 <= exponent <= 127:
        raise ValueError(f"2^{exponent} is not a normal number")
    return exponent + 127 << 23


def whole(a: int) -> int:
    """The integer that a finite value without a fraction is; ValueError for others."""
    if is_nan(a) or _is_infinite(a):
        raise ValueError(f"{a:#010x} is not finite")
    magnitude, exponent = _parts(a)
    if exponent >= 0:
        return magnitude << exponent
    if magnitude & (1 << -exponent) - 1:
        raise ValueError(f"{a:#010x} has a fraction")
    return magnitude >> -exponent


def from_int(number: int) -> int:
    """The value of an integer, rounded once."""
    return _rounded(_SIGN if number < 0 else 0, abs(number), 0) if number else 0


def exp(x: int) -> int:
    """The chain of docs/exact.md; at most 1.01 units in the last place off."""
    if is_nan(x):
        return NAN
    if _above(x, from_int(89)):
        return INFINITY
    if _above(from_int(-104), x):
        return 0
    n = sub(fma(x, 0x3FB8AA3B, 0x4B400000), 0x4B400000)
    r = fma(n, 0x395E8083, fma(n, 0xBF318000, x))
    p = EXP_POLYNOMIAL[0]
    for coefficient in EXP_POLYNOMIAL[1:]:
        p = fma(p, r, coefficient)
    y = add(fma(p, mul(r, r), r), ONE)
    k = whole(n)
    h = k // 2
    return mul(mul(y, power_of_two(h)), power_of_two(k - h))


def log(x: int) -> int:
    """The chain of docs/exact.md; at most 0.83 units in the last place off."""
    if is_nan(x):
        return NAN
    if _is_zero(x):
        return MINUS_INFINITY
    if x & _SIGN:
        return NAN
    if x == INFINITY:
        return INFINITY
    d = 0
    if x < 1 << 23:
        x, d = mul(x, power_of_two(23)), 23
    i = x - LOG_BASE
    e = from_int((i >> 23) - d)
    m = (i & 0x7FFFFF) + LOG_BASE
    f = sub(m, ONE)
    z = mul(f, f)
    p = LOG_POLYNOMIAL[0]
    for coefficient in LOG_POLYNOMIAL[1:]:
        p = fma(p, f, coefficient)
    y = mul(p, mul(f, z))
    y = fma(e, 0xB95E8083, y)
    y = fma(z, 0xBF000000, y)
    return fma(e, 0x3F318000, add(f, y))


# By their names in docs/exact.md, with the number of operands.
UNARY: dict[str, Callable[[int], int]] = {"sqrt": sqrt, "neg": neg, "exp": exp, "log": log, "bf16": bf16}
BINARY: dict[str, Callable[[int, int], int]] = {
    "add": add,
    "sub": sub,
    "mul": mul,
    "div": div,
    "max": maximum,
    "gt": gt,
}
TERNARY: dict[str, Callable[[int, int, int], int]] = {"fma": fma, "select": select}


def evaluate(name: str, operands: tuple[int, ...]) -> int:
    """The operation that docs/exact.md calls `name`; KeyError if there is none with that many operands."""
    if len(operands) == 1:
        return UNARY[name](operands[0])
    if len(operands) == 2:
        return BINARY[name](operands[0], operands[1])
    return TERNARY[name](operands[0], operands[1], operands[2])
