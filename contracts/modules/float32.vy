# pragma version ~=0.4.3
# SPDX-License-Identifier: AGPL-3.0-only
"""
@title Arithmetic on binary32, bit for bit
@license GNU Affero General Public License v3.0 only
@notice The scalar operations of docs/exact.md, section 1: what
        gpubond/exact/scalar.py and philox.py are in Python. A value is its 32 bits
        in a uint256.
@dev Every function is total: for whatever operands below 2**32 it has the result
     that the page says, below 2**32, and does not revert. Nothing here may change
     within version 1 of exact programs. Unchecked arithmetic wraps only where a
     comment says so.
"""

# @dev Reductions, by the opcodes of their operations.
DOT: constant(uint256) = 6
SUM: constant(uint256) = 7
MAXIMUM: constant(uint256) = 8

# @dev Most micro-steps of one call of `_chain`.
MAX_TERMS: constant(uint256) = 16

NAN: constant(uint256) = 511 << 22
INFINITY: constant(uint256) = 255 << 23
ONE: constant(uint256) = 127 << 23
_SIGN: constant(uint256) = 1 << 31

# @dev Eight times 1.
_ONES: constant(uint256) = max_value(uint256) // (2**32 - 1) * (127 << 23)
_MINUS_ONE: constant(uint256) = (1 << 31) | (127 << 23)
_MAGNITUDE: constant(uint256) = (1 << 31) - 1
_FRACTION: constant(uint256) = (1 << 23) - 1
_HIDDEN: constant(uint256) = 1 << 23
_WORD: constant(uint256) = (1 << 32) - 1

# @dev An exponent field of 0 or 255, and 1, has none of these bits.
_ORDINARY: constant(uint256) = 254 << 23

# @dev Nibble i is the bit length of i, for i below 64.
_LENGTHS: constant(bytes32) = 0x6666666666666666666666666666666655555555555555554444444433332210

# @dev Fifteen lanes of 17 bits: 1 in each; the top bit of each; 2**(i + 1) in lane i.
_LANES: constant(bytes32) = 0x0000400020001000080004000200010000800040002000100008000400020001
_TOPS: constant(bytes32) = 0x4000200010000800040002000100008000400020001000080004000200010000
_POWERS: constant(bytes32) = 0x2000080002000080002000080002000080002000080002000080002000080002


@internal
@pure
def _fma(a: uint256, b: uint256, c: uint256) -> uint256:
    """
    @dev a * b + c, rounded once.

         Both summands become integers of one unit. The product of the significands,
         47 or 48 bits, stands 27 bits up; c's significand is shifted to where it
         belongs. If that were to the right, 1 does in its place: it is far below all
         that rounding looks at. If c is so large that the product is far below, the
         result is c.

         `exponent` is the sum of the exponent fields of a and b, and 64, so that it is
         above 0 after subnormals were normalised too. The unit is 2**(exponent - 391).
    """
    exponent: uint256 = unsafe_add(unsafe_add((a >> 23) & 255, (b >> 23) & 255), 64)
    total: uint256 = (
        unsafe_mul((a & _FRACTION) | _HIDDEN, (b & _FRACTION) | _HIDDEN) << 27
    )
    addend: uint256 = (c & _FRACTION) | _HIDDEN
    # Negative numbers wrap.
    rise: uint256 = unsafe_sub(unsafe_add((c >> 23) & 255, 241), exponent)

    if (
        unsafe_mul(
            unsafe_mul(
                unsafe_add(a, _HIDDEN) & _ORDINARY, unsafe_add(b, _HIDDEN) & _ORDINARY
            ),
            unsafe_add(c, _HIDDEN) & _ORDINARY,
        )
        == 0
    ):
        # Not three normal numbers; often two and a zero.
        if (
            (c & _MAGNITUDE) == 0
            and (unsafe_add(a, _HIDDEN) & _ORDINARY) != 0
            and (unsafe_add(b, _HIDDEN) & _ORDINARY) != 0
        ):
            addend = 0
            rise = 0
        elif (a & _MAGNITUDE) > INFINITY or (b & _MAGNITUDE) > INFINITY:
            return NAN
        elif (c & _MAGNITUDE) > INFINITY:
            return NAN
        elif (a & _MAGNITUDE) == 0 or (b & _MAGNITUDE) == 0:
            if (a & _MAGNITUDE) == INFINITY or (b & _MAGNITUDE) == INFINITY:
                return NAN
            if (c & _MAGNITUDE) == 0:
                return (a ^ b) & c & _SIGN
            return c
        elif (a & _MAGNITUDE) == INFINITY or (b & _MAGNITUDE) == INFINITY:
            if (c & _MAGNITUDE) == INFINITY and (a ^ b ^ c) & _SIGN != 0:
                return NAN
            return ((a ^ b) & _SIGN) | INFINITY
        elif (c & _MAGNITUDE) == INFINITY:
            return c
        else:
            # Subnormals have no hidden bit, and the exponent of the field 1. A product
            # that is short for it is shifted up to 48 bits.
            if (a & INFINITY) == 0 or (b & INFINITY) == 0:
                total = unsafe_mul(
                    (a & _FRACTION) | (convert(a & INFINITY != 0, uint256) << 23),
                    (b & _FRACTION) | (convert(b & INFINITY != 0, uint256) << 23),
                )
                length: uint256 = self._length(total)
                total = total << unsafe_sub(75, length)
                exponent = unsafe_add(
                    unsafe_add(
                        convert(a & INFINITY == 0, uint256),
                        convert(b & INFINITY == 0, uint256),
                    ),
                    unsafe_sub(unsafe_add(exponent, length), 48),
                )
            rise = unsafe_sub(unsafe_add((c >> 23) & 255, 241), exponent)
            if (c & INFINITY) == 0:
                addend = c & _FRACTION
                rise = unsafe_add(rise, 1)
                if addend == 0:
                    rise = 0

    # The greater one is below 2**(window + 5), and the sum below 2**(window + 6).
    window: uint256 = 70
    if rise < 52:
        addend = addend << rise
    elif rise < 103:
        addend = addend << rise
        window = unsafe_add(rise, 19)
    elif rise < 1 << 255:
        return c
    else:
        addend = 1

    sign: uint256 = c & _SIGN
    if (a ^ b ^ c) & _SIGN == 0:
        total = unsafe_add(total, addend)
    elif total > addend:
        total = unsafe_sub(total, addend)
        sign = sign ^ _SIGN
    elif total < addend:
        total = unsafe_sub(addend, total)
    else:
        return 0

    # How many bits fall away below the 24 that stay.
    drop: uint256 = total >> window
    if drop != 0:
        drop = unsafe_add(
            window, unsafe_sub((convert(_LENGTHS, uint256) >> (drop << 2)) & 15, 24)
        )
    else:
        # Much was cancelled; 2**27 divides the total.
        drop = unsafe_sub(self._length(total), 24)
    field: uint256 = unsafe_add(exponent, drop)
    if field < 242:
        # Subnormal.
        drop = unsafe_sub(242, exponent)
        field = 242
    # To nearest, ties to even. The leading bit adds the 1 that is missing in the field.
    total = unsafe_add(
        unsafe_add(
            total, unsafe_add(max_value(uint256) >> unsafe_sub(257, drop), (total >> drop) & 1)
        )
        >> drop,
        unsafe_sub(field, 242) << 23,
    )
    if total > INFINITY:
        return sign | INFINITY
    return sign | total


@internal
@pure
def _add(a: uint256, b: uint256) -> uint256:
    return self._fma(a, ONE, b)


@internal
@pure
def _sub(a: uint256, b: uint256) -> uint256:
    return self._fma(b, _MINUS_ONE, a)


@internal
@pure
def _mul(a: uint256, b: uint256) -> uint256:
    return self._fma(a, b, _SIGN)


@internal
@pure
def _div(a: uint256, b: uint256) -> uint256:
    # a / b, rounded once.
    sign: uint256 = (a ^ b) & _SIGN
    top: uint256 = a & _MAGNITUDE
    bottom: uint256 = b & _MAGNITUDE
    if top > INFINITY or bottom > INFINITY:
        return NAN
    if top == INFINITY or bottom == 0:
        if top == bottom:
            return NAN
        return sign | INFINITY
    if top == 0 or bottom == INFINITY:
        return sign
    exponent: uint256 = 0
    below: uint256 = 0
    top, exponent = self._normalised(a)
    bottom, below = self._normalised(b)
    # The unit is 2**(exponent - 441).
    exponent = unsafe_sub(unsafe_add(exponent, 400), below)
    top = top << 40
    # 40 or 41 bits, and a last one that says that there is more.
    quotient: uint256 = unsafe_div(top, bottom)
    more: bool = unsafe_mul(quotient, bottom) != top
    drop: uint256 = unsafe_add(17, quotient >> 40)
    quotient = (quotient << 1) | convert(more, uint256)
    field: uint256 = unsafe_add(exponent, drop)
    if field < 292:
        # Subnormal.
        drop = unsafe_sub(292, exponent)
        field = 292
    quotient = unsafe_add(
        self._shifted(quotient, drop), unsafe_sub(field, 292) << 23
    )
    if quotient > INFINITY:
        return sign | INFINITY
    return sign | quotient


@internal
@pure
def _sqrt(a: uint256) -> uint256:
    # The square root, rounded once; never subnormal.
    if (a & _MAGNITUDE) > INFINITY:
        return NAN
    if (a & _MAGNITUDE) == 0 or a == INFINITY:
        return a
    if a & _SIGN != 0:
        return NAN
    square: uint256 = 0
    exponent: uint256 = 0
    square, exponent = self._normalised(a)
    # 53 or 54 bits, so that the rest of the exponent is even; the root has 27.
    up: uint256 = unsafe_sub(30, exponent & 1)
    square = square << up
    root: uint256 = isqrt(square)
    more: bool = unsafe_mul(root, root) != square
    root = (root << 1) | convert(more, uint256)
    return unsafe_add(
        self._shifted(root, 4), (unsafe_sub(unsafe_add(exponent, 90), up) >> 1) << 23
    )


@internal
@pure
def _neg(a: uint256) -> uint256:
    if (a & _MAGNITUDE) > INFINITY:
        return NAN
    return a ^ _SIGN


@internal
@pure
def _gt(a: uint256, b: uint256) -> uint256:
    if self._above(a, b):
        return ONE
    return 0


@internal
@pure
def _max(a: uint256, b: uint256) -> uint256:
    if (a & _MAGNITUDE) > INFINITY or (b & _MAGNITUDE) > INFINITY:
        return NAN
    if self._above(a, b):
        return a
    return b


@internal
@pure
def _select(condition: uint256, a: uint256, b: uint256) -> uint256:
    if condition & _MAGNITUDE != 0:
        return a
    return b


@internal
@pure
def _bf16(a: uint256) -> uint256:
    if (a & _MAGNITUDE) > INFINITY:
        return NAN
    # An infinity stays one, and nothing else reaches 2**32.
    return unsafe_add(unsafe_add(a, 32767), (a >> 16) & 1) & (65535 << 16)


@internal
@pure
def _exp(x: uint256) -> uint256:
    if (x & _MAGNITUDE) > INFINITY:
        return NAN
    if x < _SIGN:
        if x > convert(0x42b20000, uint256):  # 89
            return INFINITY
    elif x > convert(0xc2d00000, uint256):  # -104
        return 0
    t: uint256 = self._fma(x, convert(0x3fb8aa3b, uint256), convert(0x4b400000, uint256))
    n: uint256 = self._sub(t, convert(0x4b400000, uint256))
    r: uint256 = self._fma(n, convert(0xbf318000, uint256), x)
    r = self._fma(n, convert(0x395e8083, uint256), r)
    p: uint256 = self._fma(convert(0x39506967, uint256), r, convert(0x3ab743ce, uint256))
    p = self._fma(p, r, convert(0x3c088908, uint256))
    p = self._fma(p, r, convert(0x3d2aa9c1, uint256))
    p = self._fma(p, r, convert(0x3e2aaaaa, uint256))
    p = self._fma(p, r, convert(0x3f000000, uint256))
    y: uint256 = self._add(self._fma(p, self._mul(r, r), r), ONE)
    # The last bits of t are n as an integer, here with 512 added.
    k: uint256 = unsafe_sub(unsafe_add(t, 512), convert(0x4b400000, uint256))
    y = self._mul(y, unsafe_sub(k >> 1, 129) << 23)
    return self._mul(y, unsafe_sub(unsafe_sub(k, k >> 1), 129) << 23)


@internal
@pure
def _log(x: uint256) -> uint256:
    magnitude: uint256 = x & _MAGNITUDE
    if magnitude > INFINITY:
        return NAN
    if magnitude == 0:
        return _SIGN | INFINITY
    if x & _SIGN != 0:
        return NAN
    if x == INFINITY:
        return INFINITY
    # What is to be taken from the exponent, with 256 added; it is below 300.
    d: uint256 = 256
    i: uint256 = x
    if x < _HIDDEN:
        i = self._mul(x, convert(0x4b000000, uint256))
        d = 279
    i = unsafe_sub(unsafe_add(i, 256 << 23), convert(0x3f3504f3, uint256))
    e: uint256 = i >> 23
    if e < d:
        e = _SIGN | self._scaled(unsafe_sub(d, e), 126)
    else:
        e = self._scaled(unsafe_sub(e, d), 126)
    f: uint256 = self._sub(
        unsafe_add(i & _FRACTION, convert(0x3f3504f3, uint256)), ONE
    )
    z: uint256 = self._mul(f, f)
    p: uint256 = self._fma(convert(0x3d9021bb, uint256), f, convert(0xbdebd1b8, uint256))
    p = self._fma(p, f, convert(0x3def251a, uint256))
    p = self._fma(p, f, convert(0xbdfe5d4f, uint256))
    p = self._fma(p, f, convert(0x3e11e9bf, uint256))
    p = self._fma(p, f, convert(0xbe2aae50, uint256))
    p = self._fma(p, f, convert(0x3e4cceac, uint256))
    p = self._fma(p, f, convert(0xbe7ffffc, uint256))
    p = self._fma(p, f, convert(0x3eaaaaaa, uint256))
    y: uint256 = self._mul(p, self._mul(f, z))
    y = self._fma(e, convert(0xb95e8083, uint256), y)
    y = self._fma(z, convert(0xbf000000, uint256), y)
    y = self._add(f, y)
    return self._fma(e, convert(0x3f318000, uint256), y)


@internal
@pure
def _uniform(
    key_0: uint256, key_1: uint256, step: uint256, op: uint256, element: uint256
) -> uint256:
    """
    @dev Philox 4x32-10; keys, op and element are below 2**32, step is below 2**64.
    """
    k0: uint256 = key_0
    k1: uint256 = key_1
    c0: uint256 = element >> 2
    c1: uint256 = op
    c2: uint256 = step & _WORD
    c3: uint256 = (step >> 32) & _WORD
    for _: uint256 in range(10):
        low: uint256 = unsafe_mul(convert(0xd2511f53, uint256), c0)
        high: uint256 = unsafe_mul(convert(0xcd9e8d57, uint256), c2)
        c0 = (high >> 32) ^ c1 ^ k0
        c1 = high & _WORD
        c2 = (low >> 32) ^ c3 ^ k1
        c3 = low & _WORD
        k0 = unsafe_add(k0, convert(0x9e3779b9, uint256)) & _WORD
        k1 = unsafe_add(k1, convert(0xbb67ae85, uint256)) & _WORD
    word: uint256 = c0
    if element & 3 == 1:
        word = c1
    elif element & 3 == 2:
        word = c2
    elif element & 3 == 3:
        word = c3
    return self._scaled(word >> 8, 102)


@internal
@pure
def _identity(reduction: uint256) -> uint256:
    # What the accumulator of a block starts at.
    if reduction == MAXIMUM:
        return _SIGN | INFINITY
    return 0


@internal
@pure
def _join(reduction: uint256, total: uint256, block_sum: uint256) -> uint256:
    # The total after one block more.
    if reduction == MAXIMUM:
        return self._max(total, block_sum)
    return self._add(total, block_sum)


@internal
@pure
def _chain(
    reduction: uint256,
    accumulator: uint256,
    terms: uint256,
    left: uint256[2],
    right: uint256[2],
) -> uint256:
    """
    @dev The accumulator after the terms of some micro-steps within one block: at most
         MAX_TERMS. `left` and `right` have eight of their values a word, the first one
         in its highest bits; `right` is looked at for DOT only.
    """
    result: uint256 = accumulator
    a: uint256 = left[0]
    if reduction == MAXIMUM:
        for at: uint256 in range(terms, bound=MAX_TERMS):
            if at == 8:
                a = left[1]
            result = self._max(result, a >> 224)
            a = a << 32
        return result

    b: uint256 = right[0]
    b_next: uint256 = right[1]
    if reduction == SUM:
        b = _ONES
        b_next = _ONES
    for at: uint256 in range(terms, bound=MAX_TERMS):
        if at == 8:
            a = left[1]
            b = b_next
        result = self._fma(a >> 224, b >> 224, result)
        a = a << 32
        b = b << 32
    return result


@internal
@pure
def _above(a: uint256, b: uint256) -> bool:
    # a > b; false with NaN.
    if (a & _MAGNITUDE) > INFINITY or (b & _MAGNITUDE) > INFINITY:
        return False
    return self._order(a) > self._order(b)


@internal
@pure
def _order(a: uint256) -> uint256:
    # Sorts as the values do; both zeros are 2**31.
    if a & _SIGN == 0:
        return a | _SIGN
    return unsafe_sub(_SIGN, a & _MAGNITUDE)


@internal
@pure
def _normalised(a: uint256) -> (uint256, uint256):
    """
    @dev Of a finite value that is not zero: a significand of 24 bits, and an exponent,
         64 more than the field would be; the value is significand * 2**(exponent - 214).
    """
    if a & INFINITY != 0:
        return (a & _FRACTION) | _HIDDEN, unsafe_add((a >> 23) & 255, 64)
    length: uint256 = self._length(a & _FRACTION)
    return (a & _FRACTION) << unsafe_sub(24, length), unsafe_add(length, 41)


@internal
@pure
def _shifted(number: uint256, drop: uint256) -> uint256:
    # number / 2**drop, to the nearest integer, ties to even; drop is from 1 to 256.
    return (
        unsafe_add(
            unsafe_add(number, max_value(uint256) >> unsafe_sub(257, drop)),
            (number >> drop) & 1,
        )
        >> drop
    )


@internal
@pure
def _scaled(number: uint256, field: uint256) -> uint256:
    # An integer below 2**24 times 2**(field - 126), which is exact and normal or 0.
    if number == 0:
        return 0
    length: uint256 = self._length(number)
    return unsafe_sub(
        unsafe_add(unsafe_add(field, length) << 23, number << unsafe_sub(24, length)),
        _HIDDEN,
    )


@internal
@pure
def _length(number: uint256) -> uint256:
    """
    @dev The bit length of a number that is above 0 and below 2**128.
    """
    length: uint256 = convert(number >> 64 != 0, uint256) << 6
    length = length | (convert(number >> (length | 32) != 0, uint256) << 5)
    length = length | (convert(number >> (length | 16) != 0, uint256) << 4)
    # Of the 16 bits that are left, all powers of two are compared with at once: the top
    # bit of a lane stays where the number is not below. A product adds up the lanes.
    reached: uint256 = (
        unsafe_sub(
            unsafe_mul(number >> length, convert(_LANES, uint256))
            | convert(_TOPS, uint256),
            convert(_POWERS, uint256),
        )
        & convert(_TOPS, uint256)
    )
    reached = (unsafe_mul(reached >> 16, convert(_LANES, uint256)) >> 238) & 15
    return unsafe_add(unsafe_add(length, reached), 1)
