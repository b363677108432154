# SPDX-License-Identifier: Apache-2.0
"""Where the tensors of a step lie in a device's memory, planned before the start."""

from __future__ import annotations

import bisect
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from gpubond.exact.program import Op, Opcode, Program
from gpubond.exact.shapes import Shape, count

FLOAT_BYTES = 4
# What a driver aligns an allocation to; whole lines of a cache for each tensor.
ALIGNMENT = 256


class Area(Enum):
    """State and the next state lie apart and change places after each step."""

    STATE = 0
    NEXT = 1
    DATA = 2
    WORK = 3


@dataclass(frozen=True)
class Place:
    """offset: bytes from the area's begin."""

    area: Area
    offset: int

    def plus(self, elements: int) -> Place:
        """The place so many elements further on."""
        return Place(self.area, self.offset + elements * FLOAT_BYTES)


@dataclass(frozen=True)
class Layout:
    """tensors: the place of each tensor, by number. scratch: of each operation, None if it needs none.
    moves: what a step copies to the next state at its end: from, to, bytes. sizes: bytes of each area.
    needed: whether the next state depends on the operation.
    """

    tensors: tuple[Place, ...]
    scratch: tuple[Place | None, ...]
    moves: tuple[tuple[Place, Place, int], ...]
    sizes: dict[Area, int]
    needed: tuple[bool, ...]


def plan(program: Program, scratch_bytes: Callable[[Op], int]) -> Layout:
    """Every tensor's place. scratch_bytes: what an operation needs while it runs, beside inputs and output."""
    tensors = program.shapes
    first = program.first_output
    aliases = [_alias(program, number) for number in range(len(tensors))]
    roots = _roots(aliases)
    # The position of the last operation that reads a tensor, or an alias of it; the next state is read at the end.
    last = [-1] * len(tensors)
    for position, op in enumerate(program.ops):
        for number in (first + position, *op.inputs):
            last[roots[number][0]] = max(last[roots[number][0]], position)
    for state in program.state:
        last[roots[state.next][0]] = len(program.ops)

    state_offsets, state_bytes = _row([tensor.shape for tensor in program.state])
    data_offsets, data_bytes = _row([shape[1:] for shape in program.data])
    places: dict[int, Place] = {at: Place(Area.STATE, offset) for at, offset in enumerate(state_offsets)}
    places.update({len(state_offsets) + at: Place(Area.DATA, offset) for at, offset in enumerate(data_offsets)})
    for at, state in enumerate(program.state):
        if state.next >= first and aliases[state.next] is None:
            places.setdefault(state.next, Place(Area.NEXT, state_offsets[at]))

    arena = _Arena()
    scratch: list[Place | None] = []
    held: dict[int, list[tuple[int, int]]] = {}
    for position, op in enumerate(program.ops):
        number = first + position
        if aliases[number] is None and number not in places:
            offset, size = arena.take(count(op.shape) * FLOAT_BYTES)
            places[number] = Place(Area.WORK, offset)
            held.setdefault(last[number], []).append((offset, size))
        wanted = scratch_bytes(op)
        scratch.append(None)
        if wanted:
            offset, size = arena.take(wanted)
            scratch[position] = Place(Area.WORK, offset)
            arena.give(offset, size)
        for offset, size in held.pop(position, ()):
            arena.give(offset, size)

    found = tuple(places[root].plus(elements) for root, elements in roots)
    moves = []
    for at, state in enumerate(program.state):
        target = Place(Area.NEXT, state_offsets[at])
        if found[state.next] != target:
            moves.append((found[state.next], target, count(state.shape) * FLOAT_BYTES))
    sizes = {Area.STATE: state_bytes, Area.NEXT: state_bytes, Area.DATA: data_bytes, Area.WORK: arena.size}
    return Layout(found, tuple(scratch), tuple(moves), sizes, _needed(program))


def row_major(shape: Shape) -> tuple[int, ...]:
    """The strides, in elements, of a tensor whose elements lie one after another."""
    strides = [1] * len(shape)
    for at in range(len(shape) - 2, -1, -1):
        strides[at] = strides[at + 1] * shape[at + 1]
    return tuple(strides)


def is_alias(op: Op) -> bool:
    """Whether the output lies in the input as it is: a view that neither reorders nor leaves out nor repeats."""
    if op.code is not Opcode.VIEW:
        return False
    if count(op.shape) == 0:
        return True
    strides = op.parameters[1:]
    return all(
        dim == 1 or stride == wanted
        for dim, stride, wanted in zip(op.shape, strides, row_major(op.shape), strict=False)
    )


def _alias(program: Program, number: int) -> tuple[int, int] | None:
    """The tensor that this one lies in and the elements before it, or None if it has a place of its own."""
    position = number - program.first_output
    if position < 0 or not is_alias(program.ops[position]):
        return None
    op = program.ops[position]
    return op.inputs[0], op.parameters[0] if count(op.shape) else 0


def _roots(aliases: list[tuple[int, int] | None]) -> list[tuple[int, int]]:
    """For each tensor the one with a place of its own that it lies in, itself maybe, and the elements before it."""
    roots: list[tuple[int, int]] = []
    for number, alias in enumerate(aliases):
        if alias is None:
            roots.append((number, 0))
        else:
            root, before = roots[alias[0]]
            roots.append((root, before + alias[1]))
    return roots


def _needed(program: Program) -> tuple[bool, ...]:
    first = program.first_output
    wanted = {state.next for state in program.state}
    for position in range(len(program.ops) - 1, -1, -1):
        if first + position in wanted:
            wanted.update(program.ops[position].inputs)
    return tuple(first + position in wanted for position in range(len(program.ops)))


def _row(shapes: list[Shape]) -> tuple[list[int], int]:
    """Offsets of tensors that lie one behind another, and where they end."""
    offsets, end = [], 0
    for shape in shapes:
        offsets.append(end)
        end += _aligned(count(shape) * FLOAT_BYTES)
    return offsets, end


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


class _Arena:
    """Memory from which pieces are taken and given back; the smallest gap that is large enough is taken."""

    def __init__(self) -> None:
        self.size = 0
        self._gaps: list[tuple[int, int]] = []

    def take(self, size: int) -> tuple[int, int]:
        """Offset and size, rounded up, of a piece."""
        size = _aligned(size)
        fit = [gap for gap in self._gaps if gap[1] >= size]
        if fit:
            offset, room = min(fit, key=lambda gap: (gap[1], gap[0]))
            self._gaps.remove((offset, room))
            if room > size:
                bisect.insort(self._gaps, (offset + size, room - size))
            return offset, size
        # The last gap, if it reaches the end, is made longer.
        offset = self.size
        if self._gaps and sum(self._gaps[-1]) == self.size:
            offset = self._gaps.pop()[0]
        self.size = offset + size
        return offset, size

    def give(self, offset: int, size: int) -> None:
        """The piece is free again."""
        if size == 0:
            return
        at = bisect.bisect(self._gaps, (offset, size))
        if at < len(self._gaps) and self._gaps[at][0] == offset + size:
            size += self._gaps.pop(at)[1]
        if at > 0 and sum(self._gaps[at - 1]) == offset:
            at -= 1
            before = self._gaps.pop(at)
            offset, size = before[0], before[1] + size
        self._gaps.insert(at, (offset, size))
