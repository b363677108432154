# SPDX-License-Identifier: Apache-2.0
"""Small runs that pass through every level of a game."""

from __future__ import annotations

import numpy as np

from gpubond.exact.engine import Array
from gpubond.exact.program import Op, Opcode, Program, StateTensor
from gpubond.exact.runner import Task
from gpubond.exact.shapes import MAX_RANK, Shape

SMALL = 0x3A83126F  # 0.001: states stay finite


class Builder:
    """A program that grows. `op` gives the number of the output."""

    def __init__(self, state: list[Shape], data: list[Shape]) -> None:
        self.state, self.data = state, data
        self.known = [*state, *(shape[1:] for shape in data)]
        self.ops: list[Op] = []

    def op(self, code: Opcode, inputs: tuple[int, ...], shape: Shape, *parameters: int) -> int:
        self.ops.append(Op(code, inputs, tuple(self.known[at] for at in inputs), shape, parameters))
        self.known.append(shape)
        return len(self.known) - 1

    def view(self, of: int, shape: Shape, offset: int, *strides: int) -> int:
        return self.op(Opcode.VIEW, (of,), shape, offset, *strides, *[0] * (MAX_RANK - len(strides)))

    def program(self, *following: int) -> Program:
        tensors = tuple(StateTensor(shape, at) for shape, at in zip(self.state, following, strict=True))
        return Program(tensors, tuple(self.data), tuple(self.ops))


def every_level() -> Program:
    """Outputs of one leaf, of many and of none; reductions of 2, 20, 40 and 1050 terms; states that stay, and swap."""
    it = Builder([(70,), (), (2, 0), (3,), (3,)], [(3, 2, 20), (2, 20)])
    square = it.view(0, (2, 20), 3, 20, 1)
    product = it.op(Opcode.MATMUL_NT, (5, square), (2, 2))
    total = it.op(Opcode.SUM, (product,), (2,))
    zero = it.op(Opcode.CONST, (), (2,), 0)
    chosen = it.op(Opcode.GT, (total, zero), (2,))
    gathered = it.op(Opcode.GATHER, (5, chosen), (2, 20))
    missed = it.op(Opcode.GATHER, (square, product), (2, 2, 20))
    noise = it.op(Opcode.UNIFORM, (), (70,), 7, 9)
    both = it.op(Opcode.CONCAT, (gathered, square), (2, 40), 1)
    most = it.op(Opcode.ROWMAX, (both,), (2,))
    wide = it.view(0, (15, 70), 0, 0, 1)
    row = it.view(wide, (1, 1050), 0, 1050, 1)
    long = it.op(Opcode.SUM, (row,), (1,))
    spread = it.view(long, (70,), 0, 0)
    cut = it.view(both, (70,), 5, 1)
    small = it.op(Opcode.CONST, (), (70,), SMALL)
    scaled = it.op(Opcode.MUL, (spread, small), (70,))
    following = it.op(Opcode.FMA, (noise, cut, scaled), (70,))
    last = it.op(Opcode.CONCAT, (missed, missed), (2, 2, 40), 2)
    sums = it.op(Opcode.SUM, (last,), (2, 2))
    rows = it.op(Opcode.SUM, (sums,), (2,))
    first = it.op(Opcode.ADD, (rows, most), (2,))
    seen = it.view(6, (2,), 4, 3)
    second = it.op(Opcode.MUL, (seen, first), (2,))
    scalar = it.op(Opcode.SUM, (second,), ())
    empty = it.view(2, (2, 0), 0, 0, 0)
    return it.program(following, scalar, empty, 4, 3)


def every_level_task(steps: int = 5, interval: int = 2) -> Task:
    chance = np.random.default_rng(3)
    initial: list[Array] = [
        chance.standard_normal(70, np.float32),
        np.zeros((), np.float32),
        np.zeros((2, 0), np.float32),
        np.array([1, 2, 3], np.float32),
        np.array([4, 5, 6], np.float32),
    ]
    data = [chance.standard_normal(shape, np.float32) for shape in ((3, 2, 20), (2, 20))]
    return Task(every_level(), initial, data, steps, interval)


def single(code: Opcode = Opcode.ADD) -> Program:
    """One state tensor of one element, one operation: levels with nothing to pick are passed over."""
    shape: Shape = (1,)
    return Program((StateTensor(shape, 1),), (), (Op(code, (0, 0), (shape, shape), shape),))


def single_task(steps: int = 1, interval: int = 1, code: Opcode = Opcode.ADD) -> Task:
    return Task(single(code), [np.array([1.5], np.float32)], [], steps, interval)


def summing(terms: int, code: Opcode = Opcode.SUM) -> Program:
    """A reduction of many terms."""
    it = Builder([(terms,), ()], [])
    if code is Opcode.MATMUL_NT:
        row = it.view(0, (1, terms), 0, terms, 1)
        whole = it.op(code, (row, row), (1, 1))
        return it.program(0, it.view(whole, (), 0))
    return it.program(0, it.op(code, (0,), ()))


def summing_task(terms: int, code: Opcode = Opcode.SUM) -> Task:
    chance = np.random.default_rng(5)
    return Task(summing(terms, code), [chance.standard_normal(terms, np.float32), np.zeros((), np.float32)], [], 1, 1)


def deep_task(*leaves: int, steps: int = 2, interval: int = 2) -> Task:
    """For each number an output with so many leaves of elements."""
    it = Builder([(64 * count - 3,) for count in leaves], [])
    program = it.program(*(it.op(Opcode.MUL, (at, at), shape) for at, shape in enumerate(it.state)))
    chance = np.random.default_rng(13)
    return Task(program, [chance.standard_normal(shape, np.float32) for shape in it.state], [], steps, interval)


def wide_task(steps: int = 3, interval: int = 2, width: int = 70) -> Task:
    """So many operations and tensors of the state that each level takes several shows."""
    it = Builder([(3,)] * width, [])
    sums = [it.op(Opcode.ADD, (at, (at + 1) % width), (3,)) for at in range(width)]
    halves = it.op(Opcode.CONST, (), (3,), 0x3F000000)
    means = [it.op(Opcode.MUL, (number, halves), (3,)) for number in sums]
    # Every seventh tensor is one of the state before.
    program = it.program(*((at + 5) % width if at % 7 == 0 else means[at] for at in range(width)))
    chance = np.random.default_rng(11)
    initial = [chance.standard_normal(3, np.float32) for _ in range(width)]
    return Task(program, initial, [], steps, interval)
