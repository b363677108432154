# SPDX-License-Identifier: Apache-2.0
"""Where the elements of a tensor stand: at an offset and strides in another one's memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gpubond.exact.shapes import Shape, count, row_major
from gpubond.exact.views import View, compose


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
        return count(shape) == 0 or View.of(self.offset, shape, self.strides).contiguous

    def view(self, own: Shape, shape: Shape, parameters: Sequence[int]) -> Ref | None:
        """A VIEW of these elements, whose shape is `own`; None if strides cannot say it."""
        shown = View.parse(shape, parameters)
        if count(shape) == 0:
            return Ref(self.root, self.offset, shown.strides)
        found = compose(View.of(self.offset, own, self.strides), shown)
        if found is None:
            return None
        # A dimension of 1 has any stride: the one it would have by itself spares its readers the question.
        strides = tuple(
            stride if dim > 1 else plain
            for dim, stride, plain in zip(shape, found.strides, row_major(shape), strict=True)
        )
        return Ref(self.root, found.offset, strides)


def padded(values: Sequence[int], length: int, filling: int) -> list[int]:
    """Filled up in front."""
    return [filling] * (length - len(values)) + list(values)
