# SPDX-License-Identifier: Apache-2.0
"""Strided views: what one says, and when two after each other are one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gpubond.exact.shapes import MAX_RANK, Shape, count, row_major


@dataclass(frozen=True)
class View:
    """Element (i_0, …) is element offset + Σ i_d · strides[d] of what is viewed. One stride a dimension."""

    offset: int
    shape: Shape
    strides: tuple[int, ...]

    @classmethod
    def of(cls, offset: int, shape: Sequence[int], strides: Sequence[int]) -> View:
        """In the one form that equal views share: no stride where nothing moves."""
        if count(tuple(shape)) == 0:
            return cls(0, tuple(shape), (0,) * len(shape))
        return cls(offset, tuple(shape), tuple(s if n > 1 else 0 for n, s in zip(shape, strides, strict=True)))

    @classmethod
    def parse(cls, shape: Shape, parameters: Sequence[int]) -> View:
        """From the output's shape and the parameters of a record."""
        return cls.of(parameters[0], shape, parameters[1 : 1 + len(shape)])

    @property
    def parameters(self) -> tuple[int, ...]:
        """Those of a record."""
        return (self.offset, *self.strides, *[0] * (MAX_RANK - len(self.strides)))

    @property
    def contiguous(self) -> bool:
        """Whether it is a stretch of what is viewed, in order: a reshape, or rows of one. Needs no copy."""
        moving = [(n, s) for n, s in zip(self.shape, self.strides, strict=True) if n > 1]
        wanted = 1
        for size, stride in reversed(moving):
            if stride != wanted:
                return False
            wanted *= size
        return True

    def identity(self, shape: Shape) -> bool:
        """Whether it shows a tensor of this shape as it is."""
        return self.shape == shape and self.offset == 0 and self.contiguous


def compose(inner: View, outer: View) -> View | None:
    """`outer` of what `inner` shows, as one view; None where no single view shows that."""
    if count(outer.shape) == 0:
        return View.of(0, outer.shape, outer.strides)
    sizes, (strides,) = collapse(inner.shape, [inner.strides])
    steps = row_major(tuple(sizes))
    reach = _coordinates(outer.offset, steps)
    offset = inner.offset + sum(at * stride for at, stride in zip(reach, strides, strict=True))
    found = []
    for size, stride in zip(outer.shape, outer.strides, strict=True):
        moves = _coordinates(stride, steps) if size > 1 else [0] * len(steps)
        reach = [at + (size - 1) * move for at, move in zip(reach, moves, strict=True)]
        found.append(sum(move * inner_stride for move, inner_stride in zip(moves, strides, strict=True)))
    # Without a carry from one dimension into the next, steps add up; with one they do not.
    if any(at >= size for at, size in zip(reach, sizes, strict=True)):
        return None
    return View.of(offset, outer.shape, found)


def collapse(shape: Shape, strides: Sequence[Sequence[int]]) -> tuple[list[int], list[list[int]]]:
    """Fewer dimensions, with the same elements in the same order, for several strides at once."""
    dims: list[int] = []
    found: list[list[int]] = [[] for _ in strides]
    for at, dim in enumerate(shape):
        if dim == 1:
            continue
        here = [each[at] for each in strides]
        if dims and all(last[-1] == dim * step for last, step in zip(found, here, strict=True)):
            dims[-1] *= dim
            for last, step in zip(found, here, strict=True):
                last[-1] = step
            continue
        dims.append(dim)
        for last, step in zip(found, here, strict=True):
            last.append(step)
    return dims, found


def _coordinates(index: int, steps: Sequence[int]) -> list[int]:
    found = []
    for step in steps:
        found.append(index // step)
        index %= step
    return found
