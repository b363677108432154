# SPDX-License-Identifier: Apache-2.0
"""Where the tensors of a step lie in a device's memory, planned before the start."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from gpubond.exact.arena import Lifetime, arrange
from gpubond.exact.program import Op, Opcode, Program
from gpubond.exact.shapes import Shape, count
from gpubond.exact.views import View

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
    needed: positions of the operations that the next state depends on.
    """

    tensors: tuple[Place, ...]
    scratch: tuple[Place | None, ...]
    moves: tuple[tuple[Place, Place, int], ...]
    sizes: dict[Area, int]
    needed: set[int]


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

    scratch_of = [scratch_bytes(op) for op in program.ops]
    own = [at for at in range(len(program.ops)) if aliases[first + at] is None and first + at not in places]
    working = [at for at, size in enumerate(scratch_of) if size]
    lives = [Lifetime(at, last[first + at], _aligned(count(program.ops[at].shape) * FLOAT_BYTES)) for at in own]
    lives += [Lifetime(at, at, _aligned(scratch_of[at])) for at in working]
    offsets = arrange(lives)
    held = [Place(Area.WORK, offset) for offset in offsets]
    places |= {first + at: place for at, place in zip(own, held, strict=False)}
    given = dict(zip(working, held[len(own) :], strict=True))
    scratch = tuple(given.get(at) for at in range(len(program.ops)))
    work_bytes = max((offset + life.size for offset, life in zip(offsets, lives, strict=True)), default=0)

    found = tuple(places[root].plus(elements) for root, elements in roots)
    moves = []
    for at, state in enumerate(program.state):
        target = Place(Area.NEXT, state_offsets[at])
        if found[state.next] != target:
            moves.append((found[state.next], target, count(state.shape) * FLOAT_BYTES))
    sizes = {Area.STATE: state_bytes, Area.NEXT: state_bytes, Area.DATA: data_bytes, Area.WORK: work_bytes}
    return Layout(found, scratch, tuple(moves), sizes, program.needed)


def is_alias(op: Op) -> bool:
    """Whether the output lies in the input as it is: a view that neither reorders nor leaves out nor repeats."""
    if op.code is not Opcode.VIEW:
        return False
    return count(op.shape) == 0 or View.parse(op.shape, op.parameters).contiguous


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


def _row(shapes: list[Shape]) -> tuple[list[int], int]:
    """Offsets of tensors that lie one behind another, and where they end."""
    offsets, end = [], 0
    for shape in shapes:
        offsets.append(end)
        end += _aligned(count(shape) * FLOAT_BYTES)
    return offsets, end


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
