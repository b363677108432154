# SPDX-License-Identifier: Apache-2.0
"""The words of plans, as native/plan.h lays them out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from gpubond.exact.program import ELEMENTWISE, Op, Opcode, Program
from gpubond.exact.shapes import Shape, count, row_major
from gpubond.exact.strided import Ref, padded
from gpubond.exact.views import collapse

PLAN_VERSION = 2
_FUSED, _COPY, _GATHER, _MATMUL, _SUM, _ROWMAX, _ROOTS = 1, 2, 3, 4, 5, 6, 7
_DENSE, _CONSTANT, _STRIDED = 0, 1, 2


class Place(NamedTuple):
    """base: number of a pointer, 0 for the arena. offset: in elements."""

    base: int
    offset: int


@dataclass(frozen=True)
class Constant:
    """A value, by its bits, at every element."""

    bits: int


class Writer:
    """Writes instructions of one program, whose tensors are read by `refs` and stand at `places`."""

    def __init__(self, program: Program, refs: Sequence[Ref | Constant], places: Mapping[int, Place]) -> None:
        self._program = program
        self._first = program.first_output
        self._refs = refs
        self._places = places

    def instruction(self, ops: Sequence[int], work: Place) -> list[int]:
        """One operation, or several element by element in one pass; nothing if there are no elements."""
        op = self._program.ops[ops[0]]
        if count(op.shape) == 0:
            return []
        constant = isinstance(self._refs[self._first + ops[0]], Constant)
        if constant or op.code in ELEMENTWISE or op.code in (Opcode.UNIFORM, Opcode.CONST):
            return _Pass(self._program, self._refs, self._places, op.shape).words(ops)
        return self._one(op, self._places[self._first + ops[0]], work)

    def _one(self, op: Op, to: Place, work: Place) -> list[int]:
        if op.code == Opcode.VIEW:
            ref = self._ref(op, 0).view(op.input_shapes[0], op.shape, op.parameters)
            if ref is None:
                raise AssertionError("a VIEW of a VIEW that is not carried out")
            return self._copy(ref, to, op.shape, row_major(op.shape))
        if op.code == Opcode.CONCAT:
            return self._concat(op, to)
        if op.code == Opcode.GATHER:
            table, index = (self._place(self._ref(op, at)) for at in range(2))
            rows, width = op.input_shapes[0]
            return _framed(_GATHER, [*table, *index, *to, rows, width, count(op.input_shapes[1])])
        if op.code == Opcode.MATMUL_NT:
            return self._matmul(op, to, work)
        return self._reduce(op, to)

    def to_next(self, number: int, to: Place) -> list[int]:
        """Copies a tensor to where the next state wants it, unless it stands there."""
        shape = self._program.shapes[number]
        ref = self._refs[number]
        if count(shape) == 0:
            return []
        if isinstance(ref, Constant):
            return _Pass(self._program, self._refs, {number: to}, shape).words([number - self._first])
        if self._places[ref.root] == to and ref.dense(shape):
            return []
        return self._copy(ref, to, shape, row_major(shape))

    def _ref(self, op: Op, at: int) -> Ref:
        number = op.inputs[at]
        ref = self._refs[number]
        return Ref.whole(number, op.input_shapes[at]) if isinstance(ref, Constant) else ref

    def _place(self, ref: Ref) -> Place:
        place = self._places[ref.root]
        return Place(place.base, place.offset + ref.offset)

    def _copy(self, ref: Ref, to: Place, shape: Shape, to_strides: Sequence[int]) -> list[int]:
        dims, (source, target) = collapse(shape, [ref.strides, to_strides])
        order = sorted(range(len(dims)), key=lambda at: -target[at])
        # Inside goes what is written side by side, next to it what is read side by side.
        near = [at for at in order[:-1] if source[at] == 1]
        if near:
            order.remove(near[-1])
            order.insert(len(order) - 1, near[-1])
        return _framed(
            _COPY,
            [
                *self._place(ref),
                *to,
                *padded([dims[at] for at in order], 4, 1),
                *padded([source[at] for at in order], 4, 0),
                *padded([target[at] for at in order], 4, 0),
            ],
        )

    def _concat(self, op: Op, to: Place) -> list[int]:
        axis = op.parameters[0]
        strides = row_major(op.shape)
        words: list[int] = []
        begin = 0
        for at, shape in enumerate(op.input_shapes):
            if count(shape):
                place = Place(to.base, to.offset + begin * strides[axis])
                words += self._copy(self._ref(op, at), place, shape, strides)
            begin += shape[axis]
        return words

    def _matmul(self, op: Op, to: Place, work: Place) -> list[int]:
        left, right = self._ref(op, 0), self._ref(op, 1)
        *batch, m, k = op.input_shapes[0]
        words = [*self._place(left), *self._place(right), *to, *work, *padded(batch, 2, 1), m, op.shape[-1], k]
        for ref in (left, right):
            words += [*padded(ref.strides[:-2], 2, 0), *ref.strides[-2:]]
        return _framed(_MATMUL, words)

    def _reduce(self, op: Op, to: Place) -> list[int]:
        ref = self._ref(op, 0)
        *shape, terms = op.input_shapes[0]
        words = [*self._place(ref), *to, *padded(shape, 3, 1), *padded(ref.strides[:-1], 3, 0), terms, ref.strides[-1]]
        return _framed(_SUM if op.code == Opcode.SUM else _ROWMAX, words)


class _Pass:
    """One pass over tiles: slots for operands, and for results that need no memory."""

    def __init__(
        self, program: Program, refs: Sequence[Ref | Constant], places: Mapping[int, Place], shape: Shape
    ) -> None:
        self._program = program
        self._first = program.first_output
        self._refs = refs
        self._places = places
        self._shape = shape
        # What each slot reads or writes.
        self._slots: dict[Ref | Constant, int] = {}

    def words(self, ops: Sequence[int]) -> list[int]:
        results = {self._first + at for at in ops}
        for at in ops:
            for ref in self._inputs(at):
                if isinstance(ref, Constant) or ref.root not in results:
                    self._slots.setdefault(ref, len(self._slots))
        for at in ops:
            if self._first + at in self._places:
                self._slots.setdefault(self._whole(at), len(self._slots))
        operands = list(self._slots)
        micros, tiles = self._micros(ops)
        strides = [ref.strides if isinstance(ref, Ref) else (0,) * len(self._shape) for ref in operands]
        dense = [isinstance(ref, Ref) and ref.dense(self._shape) for ref in operands]
        spread = [at for at, ref in enumerate(operands) if isinstance(ref, Ref) and not dense[at]]
        dims, collapsed = collapse(self._shape, [strides[at] for at in spread] or [row_major(self._shape)])
        words = [count(self._shape), *padded(dims, 4, 1), len(operands), tiles, len(ops)]
        for at, ref in enumerate(operands):
            if isinstance(ref, Constant):
                words += [0, ref.bits, _CONSTANT, 0, 0, 0, 0]
            elif dense[at]:
                words += [*self._place(ref), _DENSE, 0, 0, 0, 0]
            else:
                words += [*self._place(ref), _STRIDED, *padded(collapsed[spread.index(at)], 4, 0)]
        return _framed(_FUSED, words + micros)

    def _inputs(self, at: int) -> list[Ref | Constant]:
        op = self._program.ops[at]
        value = self._refs[self._first + at]
        if isinstance(value, Constant):
            return [value] * 3
        if op.code == Opcode.CONST:
            return [Constant(op.parameters[0])] * 3
        return [self._refs[number] for number in op.inputs]

    def _micros(self, ops: Sequence[int]) -> tuple[list[int], int]:
        """The operations, and how many tiles their results need."""
        last: dict[Ref | Constant, int] = {ref: at for at in ops for ref in self._inputs(at)}
        slots = dict(self._slots)
        free: list[int] = []
        tiles = 0
        words: list[int] = []
        for at in ops:
            op = self._program.ops[at]
            inputs = self._inputs(at)
            read = [slots[ref] for ref in inputs]
            for ref in set(inputs):
                if last[ref] == at and ref not in self._slots:
                    free.append(slots[ref])
            result = self._whole(at)
            if result not in slots:
                if free:
                    slots[result] = free.pop()
                else:
                    slots[result] = len(self._slots) + tiles
                    tiles += 1
            # Constants are copied: whichever is selected.
            code = op.code if op.code in ELEMENTWISE or op.code == Opcode.UNIFORM else Opcode.SELECT
            own = [*op.parameters, at] if code == Opcode.UNIFORM else [0, 0, 0]
            words += [int(code), slots[result], *read, *[0] * (3 - len(read)), *own]
            if result not in last and result not in self._slots:
                free.append(slots[result])
        return words, tiles

    def _whole(self, at: int) -> Ref:
        return Ref.whole(self._first + at, self._shape)

    def _place(self, ref: Ref) -> Place:
        place = self._places[ref.root]
        return Place(place.base, place.offset + ref.offset)


def roots(work: Place, count: int, parts: int, elements: int, items: Sequence[int]) -> list[int]:
    """Hashes so many tensors, of so many parts and elements together."""
    return _framed(_ROOTS, [*work, count, parts, elements, *items])


def _framed(kind: int, words: Sequence[int]) -> list[int]:
    return [kind, len(words) + 2, *words]
