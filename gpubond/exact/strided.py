# SPDX-License-Identifier: Apache-2.0
"""Where the elements of a tensor stand: at an offset and strides in another one's memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gpubond.exact.shapes import Shape, count


def row_major(shape: Shape) -> tuple[int, ...]:
    """The strides of a tensor that stands by itself, in elements."""
    strides, step = [], 1
    for dim in reversed(shape):
        strides.append(step)
        step *= dim
    return tuple(reversed(strides))


@dataclass(frozen=True)
class Ref:
    """Elements of the tensor `root`. strides: as many as the shape has dimensions."""

    root: int
    offset: int
    strides: tuple[int, ...]

    @classmethod
    def whole(cls, root: int, shape: Shape) -> Ref:
        """A tensor as it is."""
        return cls(root, 0, row_major(shape))

    def dense(self, shape: Shape) -> bool:
        """Whether the elements follow one another in order."""
        if count(shape) == 0:
            return True
        return all(
            dim == 1 or mine == its for dim, mine, its in zip(shape, self.strides, row_major(shape), strict=True)
        )

    def view(self, own: Shape, shape: Shape, parameters: Sequence[int]) -> Ref | None:
        """A VIEW of these elements, whose shape is `own`; None if strides cannot say it."""
        offset, strides = parameters[0], tuple(parameters[1 : 1 + len(shape)])
        if count(shape) == 0:
            return Ref(self.root, self.offset, strides)
        # A dimension of 1 has any stride: the one it would have by itself spares its readers the question.
        strides = tuple(
            stride if dim > 1 else plain for dim, stride, plain in zip(shape, strides, row_major(shape), strict=True)
        )
        if self.dense(own):
            return Ref(self.root, self.offset + offset, strides)
        steps = [_coordinates(stride if dim > 1 else 0, own) for dim, stride in zip(shape, strides, strict=True)]
        begin = _coordinates(offset, own)
        # No coordinate may run over into the one before it.
        for at, dim in enumerate(own):
            reach = begin[at] + sum((n - 1) * step[at] for n, step in zip(shape, steps, strict=True))
            if reach >= dim:
                return None
        found = [self._distance(step) for step in steps]
        return Ref(
            self.root,
            self.offset + self._distance(begin),
            tuple(each if dim > 1 else plain for dim, each, plain in zip(shape, found, strides, strict=True)),
        )

    def _distance(self, coordinates: Sequence[int]) -> int:
        return sum(at * stride for at, stride in zip(coordinates, self.strides, strict=True))


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


def padded(values: Sequence[int], length: int, filling: int) -> list[int]:
    """Filled up in front."""
    return [filling] * (length - len(values)) + list(values)


def _coordinates(position: int, shape: Shape) -> list[int]:
    """Of an element by its place in row-major order. The first coordinate may reach beyond its dimension."""
    found = []
    for dim in reversed(shape[1:]):
        found.append(position % dim)
        position //= dim
    return [*([position] if shape else []), *reversed(found)]
