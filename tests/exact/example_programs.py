# SPDX-License-Identifier: Apache-2.0
"""Small whole programs, always the same: those of tests/vectors/programs.json."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gpubond.exact.engine import Array
from gpubond.exact.program import Op, Opcode, Program, StateTensor
from gpubond.exact.shapes import Shape
from tests.exact.programs import Case
from tests.exact.values import around_zero


class Making:
    """A program under way: shapes by tensor number."""

    def __init__(self, state: Sequence[Shape], data: Sequence[Shape]) -> None:
        self._shapes = [*state, *data]
        self.ops: list[Op] = []

    def __call__(self, code: Opcode, shape: Shape, *inputs: int, parameters: tuple[int, ...] = ()) -> int:
        self.ops.append(Op(code, inputs, tuple(self._shapes[at] for at in inputs), shape, parameters))
        self._shapes.append(shape)
        return len(self._shapes) - 1


def training() -> Case:
    """Softmax regression with dropout and momentum, five points of three numbers, four classes."""
    points, features, classes, batches = 5, 3, 4, 2
    rows: Shape = (points, classes)
    state: list[Shape] = [(classes, features), (classes, features), (classes, classes), ()]
    op = Making(state, [(points, features), (points,)])
    weights, momentum, identity, x, labels = 0, 1, 2, 4, 5
    noise = op(Opcode.UNIFORM, (points, features), parameters=(11, 13))
    rate = op(Opcode.CONST, (points, features), parameters=(0x3E800000,))
    kept = op(Opcode.MUL, (points, features), x, op(Opcode.GT, (points, features), noise, rate))
    logits = op(Opcode.MATMUL_NT, rows, kept, weights)
    largest = op(Opcode.ROWMAX, (points,), logits)
    spread = (0, 1, 0, 0, 0)
    powers = op(Opcode.EXP, rows, op(Opcode.SUB, rows, logits, op(Opcode.VIEW, rows, largest, parameters=spread)))
    total = op(Opcode.SUM, (points,), powers)
    losses = op(Opcode.ADD, (points,), op(Opcode.LOG, (points,), total), largest)
    chances = op(Opcode.DIV, rows, powers, op(Opcode.VIEW, rows, total, parameters=spread))
    wanted = op(Opcode.GATHER, rows, identity, labels)
    hit = op(Opcode.SUM, (points,), op(Opcode.MUL, rows, logits, wanted))
    loss = op(Opcode.SUM, (), op(Opcode.SUB, (points,), losses, hit))
    error = op(Opcode.VIEW, (classes, points), op(Opcode.SUB, rows, chances, wanted), parameters=(0, 1, classes, 0, 0))
    turned = op(Opcode.VIEW, (features, points), kept, parameters=(0, 1, features, 0, 0))
    gradient = op(Opcode.MATMUL_NT, state[0], error, turned)
    decay = op(Opcode.CONST, state[0], parameters=(0x3F666666,))
    speed = op(Opcode.FMA, state[0], momentum, decay, gradient)
    step = op(Opcode.CONST, state[0], parameters=(0xBDCCCCCD,))
    better = op(Opcode.FMA, state[0], speed, step, weights)
    generator = np.random.RandomState(7)
    following = (better, speed, identity, loss)
    program = Program(
        tuple(StateTensor(shape, number) for shape, number in zip(state, following, strict=True)),
        ((batches, points, features), (batches, points)),
        tuple(op.ops),
    )
    start = (around_zero(generator, *state[0]), np.zeros(state[1]), np.eye(classes), np.zeros(()))
    points_of = around_zero(generator, batches, points, features)
    data = (points_of, generator.randint(0, classes, (batches, points)))
    return Case(program, tuple(map(single, start)), tuple(map(single, data)), 0)


def single(array: Any) -> Array:
    return np.asarray(array, dtype=np.float32)


def emptiness() -> Case:
    """Nothing to count, data that are one number a step, and state that trades places."""
    op = Making([(2, 0), (2,), (2,)], [()])
    op(Opcode.NEG, (), 3)
    op(Opcode.EXP, (2, 0), 0)
    none = op(Opcode.SUM, (2,), 0)
    op(Opcode.VIEW, (2, 2), none, parameters=(0, 0, 1, 0, 0))
    states = (StateTensor((2, 0), 0), StateTensor((2,), 2), StateTensor((2,), 1))
    program = Program(states, ((3,),), tuple(op.ops))
    state = (np.zeros((2, 0), dtype=np.float32), single((1, -0.0)), single((np.inf, 2.0**-149)))
    return Case(program, state, (single((1, 2, 3)),), 2**64 - 4)
