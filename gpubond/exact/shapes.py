# SPDX-License-Identifier: Apache-2.0
"""Shapes of tensors: rank 0 to 4, row-major."""

from __future__ import annotations

import math

from gpubond.exact.refusal import Refused

Shape = tuple[int, ...]
MAX_RANK = 4
# Of a dimension, and of the product of all that are not 0: so that no library's product of them overflows.
MOST = 2**31 - 1


def count(shape: Shape) -> int:
    """Elements of a tensor."""
    return math.prod(shape)


def row_major(shape: Shape) -> tuple[int, ...]:
    """The strides of a tensor that stands by itself, in elements."""
    strides, step = [], 1
    for dim in reversed(shape):
        strides.append(step)
        step *= dim
    return tuple(reversed(strides))


def check(field: str, shape: Shape) -> None:
    """Raises Refused if no tensor may have this shape."""
    if len(shape) > MAX_RANK:
        raise Refused(f"{field}.rank", len(shape), f"must be at most {MAX_RANK}")
    for at, dim in enumerate(shape):
        if not 0 <= dim <= MOST:
            raise Refused(f"{field}.dimension[{at}]", dim, f"must be from 0 to {MOST}")
    if math.prod(dim or 1 for dim in shape) > MOST:
        raise Refused(f"{field}.shape", shape, f"the product of dimensions, zeros left out, must be at most {MOST}")
