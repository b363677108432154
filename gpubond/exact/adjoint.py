# SPDX-License-Identifier: Apache-2.0
"""The adjoint of a strided view: each element of what was viewed gets the sum of what was seen of it."""

from __future__ import annotations

from collections.abc import Sequence

from gpubond.exact.graph import Tensor
from gpubond.exact.shapes import Shape, count
from gpubond.exact.strides import View

# Windows that overlap are taken apart into as many additions as they have places; more are refused.
MOST_WINDOWS = 1024


def adjoint(gradient: Tensor, view: View, shape: Shape) -> Tensor:
    """Of the gradient of what `view` shows of a tensor of this shape, the gradient of the tensor."""
    graph = gradient.graph
    if count(view.shape) == 0:
        return graph.constant(0.0, shape)
    moving = [axis for axis, stride in enumerate(view.strides) if stride]
    # Greatest stride first, as elements lie in memory; what was repeated goes to the end and is summed.
    moving.sort(key=lambda axis: -view.strides[axis])
    repeated = [axis for axis, stride in enumerate(view.strides) if not stride and view.shape[axis] > 1]
    rest = [axis for axis in range(len(view.shape)) if axis not in moving and axis not in repeated]
    seen = gradient.transpose(*moving, *rest, *repeated) if view.shape else gradient
    if repeated:
        seen = graph.sum_last(seen, len(repeated))
    sizes, strides = [view.shape[axis] for axis in moving], [view.strides[axis] for axis in moving]
    return _spread(seen.reshape(*sizes), view.offset, strides, count(shape)).reshape(*shape)


def _spread(seen: Tensor, offset: int, strides: Sequence[int], length: int) -> Tensor:
    """A flat tensor of this length with the elements of `seen` where they belong, and zeros elsewhere."""
    crossing = _crossing(seen.shape, strides)
    if crossing is not None:
        return _apart(seen, offset, strides, length, crossing)
    # Where a row of each level begins; if that does not fit inside of the rows, all zeros come first.
    begins = _begins(seen.shape, offset, strides)
    if begins is None:
        begins = [0] * len(strides)
    before = offset - sum(begins)
    flat = seen.reshape(-1, 1)
    for level in reversed(range(len(strides))):
        stride, size, begin = strides[level], seen.shape[level], begins[level]
        flat = _rows_of(flat, stride)
        flat = _behind(flat.reshape(-1, size * stride), begin)
    return _rows_of(_behind(flat.reshape(1, -1), before), length).reshape(length)


def _crossing(sizes: Shape, strides: Sequence[int]) -> int | None:
    """A dimension to take apart because elements of it lie between, or upon, those of another; None if none do."""
    span = 1
    for level in reversed(range(len(strides))):
        if strides[level] < span:
            return min((level, level + 1), key=lambda at: sizes[at])
        span += (sizes[level] - 1) * strides[level]
    return None


def _begins(sizes: Shape, offset: int, strides: Sequence[int]) -> list[int] | None:
    found = []
    for stride in strides:
        found.append(offset // stride * stride)
        offset %= stride
    reach = 1
    for level in reversed(range(len(strides))):
        if reach > strides[level]:
            return None
        reach += found[level] + (sizes[level] - 1) * strides[level]
    return found


def _rows_of(flat: Tensor, width: int) -> Tensor:
    """Rows as long as this: what is beyond is zeros and is cut off, what lacks is filled up with zeros."""
    rows, own = flat.shape
    if own > width:
        return flat.slice(1, 0, width)
    return flat.graph.concat(flat, flat.graph.constant(0.0, (rows, width - own)), 1)


def _behind(flat: Tensor, zeros: int) -> Tensor:
    return flat.graph.concat(flat.graph.constant(0.0, (flat.shape[0], zeros)), flat, 1)


def _apart(seen: Tensor, offset: int, strides: Sequence[int], length: int, level: int) -> Tensor:
    """The sum over the places of one dimension, each spread for itself."""
    graph = seen.graph
    if seen.shape[level] > MOST_WINDOWS:
        raise graph.refuse("VIEW", [seen.shape], f"its gradient needs more than {MOST_WINDOWS} additions; use GATHER")
    rest = (*strides[:level], *strides[level + 1 :])
    shape = (*seen.shape[:level], *seen.shape[level + 1 :])
    total = graph.constant(0.0, (length,))
    for at in range(seen.shape[level]):
        part = seen.slice(level, at, at + 1).reshape(*shape)
        total = total + _spread(part, offset + at * strides[level], rest, length)
    return total
