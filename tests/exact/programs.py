# SPDX-License-Identifier: Apache-2.0
"""Whole random programs with state and data for them, for every engine to be tried with.

`programs()` is a hypothesis strategy of Case. A Case's program is valid by construction, has every kind of operation in
time, and dimensions of 0, 1 and odd; its tensors hold special values.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from hypothesis import strategies as st

from gpubond.exact.engine import Array, Engine
from gpubond.exact.program import ARITY, ELEMENTWISE, Op, Opcode, Program, StateTensor
from gpubond.exact.shapes import MAX_RANK, Shape, count
from tests.exact.values import SPECIAL, canonical, tensor

MOST_ELEMENTS = 48
DIMENSIONS = (1, 2, 3, 5, 0, 4, 7)
# Lengths of reductions about the ends of blocks; rare, since the reference takes its time.
LONG = (511, 512, 513, 1023, 1024, 1025)


@dataclass(frozen=True)
class Case:
    """A program, and what it can be run on from step `step` on."""

    program: Program
    state: tuple[Array, ...]
    data: tuple[Array, ...]
    step: int


def same_bits(one: Array, other: Array) -> bool:
    return one.shape == other.shape and one.tobytes() == other.tobytes()


def outputs(engine: Engine, case: Case, steps: int = 1) -> list[Array]:
    """All outputs of all operations in all steps, and then the last state."""
    found: list[Array] = []
    prepared = engine.prepare(case.program)
    state = list(case.state)
    for step in range(case.step, case.step + steps):
        state = prepared.step(state, case.data, step, lambda _, output: found.append(output.copy()))
    return found + state


def described(case: Case, number: int) -> str:
    """What output `number` of outputs() is."""
    step, op = divmod(number, len(case.program.ops))
    return f"step {case.step + step}, op[{op}] = {case.program.ops[op]}" if step == 0 else f"output {number}"


def differences(one: Engine, other: Engine, case: Case, steps: int = 1) -> list[str]:
    """Where two engines do not give the same bits; empty if they agree, with and without being asked for outputs."""
    found, wanted = outputs(one, case, steps), outputs(other, case, steps)
    wrong = [
        f"{described(case, at)}: {a!r} and {b!r}"
        for at, (a, b) in enumerate(zip(found, wanted, strict=True))
        if not same_bits(a, b)
    ]
    prepared = one.prepare(case.program)
    state = list(case.state)
    for step in range(case.step, case.step + steps):
        state = prepared.step(state, case.data, step)
    wrong += [
        f"state.{at} without outputs: {a!r} and {b!r}"
        for at, (a, b) in enumerate(zip(state, wanted[-len(state) :], strict=True))
        if not same_bits(a, b)
    ]
    return wrong


@st.composite
def shapes(draw: st.DrawFn, least_rank: int = 0, most_rank: int = MAX_RANK, most: int = MOST_ELEMENTS) -> Shape:
    """Of few elements."""
    found: list[int] = []
    for _ in range(draw(st.integers(least_rank, most_rank))):
        room = most // count(tuple(dim or 1 for dim in found))
        found.append(draw(st.sampled_from([dim for dim in DIMENSIONS if dim <= room])))
    return tuple(found)


@dataclass
class _Maker:
    """A program that grows: the tensors' shapes so far."""

    draw: st.DrawFn
    known: list[Shape]
    ops: list[Op] = field(default_factory=list)

    def append(self, code: Opcode, inputs: tuple[int, ...], shape: Shape, parameters: tuple[int, ...] = ()) -> int:
        """The number of the new output."""
        self.ops.append(Op(code, inputs, tuple(self.known[at] for at in inputs), shape, parameters))
        self.known.append(shape)
        return len(self.known) - 1

    def any(self, fits: Callable[[Shape], bool]) -> int | None:
        numbers = [at for at, shape in enumerate(self.known) if fits(shape)]
        return self.draw(st.sampled_from(numbers)) if numbers else None

    def following(self, shape: Shape, state: int, data: int) -> list[int]:
        """What a state tensor of this shape can become: any but the data."""
        numbers = [*range(state), *range(state + data, len(self.known))]
        return [at for at in numbers if self.known[at] == shape]

    def of(self, shape: Shape) -> int:
        """A tensor of this shape: one that is there, a view of another, or a constant."""
        there = self.any(lambda known: known == shape)
        if there is not None and self.draw(st.integers(0, 3)):
            return there
        source = self.any(lambda known: count(known) > 0)
        if source is None and count(shape):
            return self.constant(shape)
        return self.view(0 if source is None else source, shape)

    def view(self, source: int, shape: Shape) -> int:
        if not count(shape):
            words = [self.draw(st.sampled_from([0, 1, 0xFFFFFFFF])) for _ in range(1 + len(shape))]
            return self.append(Opcode.VIEW, (source,), shape, (*words, *[0] * (MAX_RANK - len(shape))))
        left = count(self.known[source]) - 1
        strides = []
        for dim in shape:
            if dim == 1:
                strides.append(self.draw(st.sampled_from([0, 1, 7, 0xFFFFFFFF])))
                continue
            stride = self.draw(st.integers(0, left // (dim - 1)))
            strides.append(stride)
            left -= stride * (dim - 1)
        offset = self.draw(st.integers(0, left))
        return self.append(Opcode.VIEW, (source,), shape, (offset, *strides, *[0] * (MAX_RANK - len(shape))))

    def constant(self, shape: Shape) -> int:
        bits = self.draw(st.sampled_from(canonical(np.array(SPECIAL, dtype=np.uint32)).tolist()))
        return self.append(Opcode.CONST, (), shape, (bits,))

    def grow(self, code: Opcode) -> int:
        """One more operation of this kind, and what it needs."""
        others: dict[Opcode, Callable[[], int]] = {
            Opcode.CONST: lambda: self.constant(self.draw(shapes())),
            Opcode.UNIFORM: self._uniform,
            Opcode.VIEW: self._view,
            Opcode.CONCAT: self._concat,
            Opcode.GATHER: self._gather,
            Opcode.MATMUL_NT: self._matmul,
            Opcode.SUM: lambda: self._reduction(code),
            Opcode.ROWMAX: lambda: self._reduction(code),
        }
        if code in others:
            return others[code]()
        shape = self.draw(shapes())
        return self.append(code, tuple(self.of(shape) for _ in range(ARITY[code][0])), shape)

    def _uniform(self) -> int:
        key = (self.draw(st.integers(0, 2**32 - 1)), self.draw(st.integers(0, 9)))
        return self.append(Opcode.UNIFORM, (), self.draw(shapes()), key)

    def _view(self) -> int:
        source = self.draw(st.integers(0, len(self.known) - 1))
        shape = self.draw(shapes())
        # Nothing can be seen in an empty tensor.
        return self.view(source, shape if count(self.known[source]) else (0, *shape[1:]))

    def _gather(self) -> int:
        table, index = self.draw(shapes(2, 2)), self.draw(shapes(0, 3, 9))
        if table[1] * count(index) > MOST_ELEMENTS:
            index = index[:1]
        return self.append(Opcode.GATHER, (self.of(table), self.of(index)), (*index, table[1]))

    def _reduction(self, code: Opcode) -> int:
        shape = self.draw(shapes(1))
        if self.draw(st.integers(0, 7)) == 0:
            shape = (*(dim for dim in shape[:1] if dim < 4), self.draw(st.sampled_from(LONG)))
        return self.append(code, (self.of(shape),), shape[:-1])

    def _concat(self) -> int:
        shape = self.draw(shapes(1, most=MOST_ELEMENTS // 2))
        axis = self.draw(st.integers(0, len(shape) - 1))
        other = (*shape[:axis], self.draw(st.sampled_from((0, 1, 2))), *shape[axis + 1 :])
        both = (*shape[:axis], shape[axis] + other[axis], *shape[axis + 1 :])
        return self.append(Opcode.CONCAT, (self.of(shape), self.of(other)), both, (axis,))

    def _matmul(self) -> int:
        leading = self.draw(shapes(0, 2, 4))
        m, n = self.draw(st.sampled_from((1, 2, 3, 0))), self.draw(st.sampled_from((1, 2, 3, 5, 0)))
        k = self.draw(st.sampled_from((1, 2, 3, 7, 16, 0)))
        if self.draw(st.integers(0, 7)) == 0:
            leading, m, n, k = (), min(m, 2), min(n, 2), self.draw(st.sampled_from(LONG))
        inputs = (self.of((*leading, m, k)), self.of((*leading, n, k)))
        return self.append(Opcode.MATMUL_NT, inputs, (*leading, m, n))


@st.composite
def programs(draw: st.DrawFn, most_ops: int = 8) -> Case:
    """A valid program with a state, data and a step for it."""
    state = draw(st.lists(shapes(), min_size=1, max_size=3))
    data = draw(st.lists(shapes(0, 3), max_size=2))
    lengths = [draw(st.integers(1, 3)) for _ in data]
    maker = _Maker(draw, [*state, *data])
    for code in draw(st.lists(st.sampled_from(list(Opcode)), min_size=1, max_size=most_ops)):
        maker.grow(code)
    next_numbers = [draw(st.sampled_from(maker.following(shape, len(state), len(data)))) for shape in state]
    program = Program(
        tuple(StateTensor(shape, number) for shape, number in zip(state, next_numbers, strict=True)),
        tuple((length, *shape) for length, shape in zip(lengths, data, strict=True)),
        tuple(maker.ops),
    )
    seed = draw(st.integers(0, 2**32 - 1))
    step = draw(st.sampled_from((0, 1, 2, 5, 2**32 - 1, 2**32, 2**64 - 8)))
    return Case(
        program,
        tuple(tensor(seed + at, shape) for at, shape in enumerate(state)),
        tuple(tensor(seed + 100 + at, shape) for at, shape in enumerate(program.data)),
        step,
    )


def every_operation() -> Case:
    """One program with every operation in it, always the same."""
    ops: list[Op] = []
    shapes_known: list[Shape] = [(2, 3), (), (3,), (2, 3)]

    def op(code: Opcode, inputs: tuple[int, ...], shape: Shape, *parameters: int) -> int:
        ops.append(Op(code, inputs, tuple(shapes_known[at] for at in inputs), shape, parameters))
        shapes_known.append(shape)
        return len(shapes_known) - 1

    constant = op(Opcode.CONST, (), (2, 3), 0x3F000000)
    noise = op(Opcode.UNIFORM, (), (2, 3), 7, 9)
    turned = op(Opcode.VIEW, (0,), (3, 2), 0, 1, 3, 0, 0)
    both = op(Opcode.CONCAT, (0, constant), (4, 3), 0)
    rows = op(Opcode.GATHER, (both, 2), (3, 3))
    product = op(Opcode.MATMUL_NT, (0, rows), (2, 3))
    op(Opcode.SUM, (product,), (2,))
    op(Opcode.ROWMAX, (turned,), (3,))
    made = product
    for code in sorted(ELEMENTWISE):
        made = op(code, (made, noise, 3)[: ARITY[code][0]], (2, 3))
    program = Program((StateTensor((2, 3), product), StateTensor((), 1)), ((2, 3), (3, 2, 3)), tuple(ops))
    state = (tensor(1, (2, 3)), tensor(2, ()))
    return Case(program, state, (np.array([[0, 3, 1], [9, -1, 2]], dtype=np.float32), tensor(3, (3, 2, 3))), 1)
