# SPDX-License-Identifier: Apache-2.0
"""Programs for what a C engine can get wrong: edges of tiles, blocks and lanes, and operands read where they stand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gpubond.exact.engine import Array
from gpubond.exact.program import ARITY, ELEMENTWISE, Op, Opcode, Program, StateTensor
from gpubond.exact.shapes import MAX_RANK, Shape
from tests.exact.programs import Case
from tests.exact.values import tensor


class Builder:
    """A program that grows. Its state is the given arrays, and after each step what was kept."""

    def __init__(self) -> None:
        self._given: list[Array] = []
        self._ops: list[tuple[Opcode, tuple[int, ...], Shape, tuple[int, ...]]] = []
        self._kept: list[int] = []

    def state(self, array: Array) -> int:
        """All of the state comes before the operations."""
        if self._ops:
            raise ValueError("operations have begun")
        self._given.append(array)
        return len(self._given) - 1

    def op(self, code: Opcode, inputs: tuple[int, ...], shape: Shape, *parameters: int) -> int:
        if code == Opcode.VIEW:
            parameters += (0,) * (1 + MAX_RANK - len(parameters))
        self._ops.append((code, inputs, shape, parameters))
        return len(self._given) + len(self._ops) - 1

    def transposed(self, number: int) -> int:
        """Of rank 2."""
        rows, columns = self._shape(number)
        return self.op(Opcode.VIEW, (number,), (columns, rows), 0, 1, columns)

    def keep(self, *numbers: int) -> None:
        """Tensors that the next state holds."""
        self._kept += numbers

    def case(self, step: int = 0) -> Case:
        more = [np.zeros(self._shape(number), np.float32) for number in self._kept]
        moved = len(more)
        given = len(self._given)

        def number(old: int) -> int:
            return old if old < given else old + moved

        state = [StateTensor(array.shape, at) for at, array in enumerate(self._given)]
        state += [StateTensor(self._shape(old), number(old)) for old in self._kept]
        ops = [
            Op(code, tuple(map(number, inputs)), tuple(map(self._shape, inputs)), shape, parameters)
            for code, inputs, shape, parameters in self._ops
        ]
        arrays = (*self._given, *more)
        if not state:
            state, arrays = [StateTensor((), 0)], (np.zeros((), np.float32),)
        return Case(Program(tuple(state), (), tuple(ops)), arrays, (), step)

    def _shape(self, number: int) -> Shape:
        given = len(self._given)
        return self._given[number].shape if number < given else self._ops[number - given][2]


def ordinary(seed: int, shape: Shape) -> Array:
    """Numbers about 1, and a few special values."""
    found = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    special = tensor(seed, shape)
    chosen = np.random.default_rng(seed + 1).random(shape) < 0.01
    return np.where(chosen, special, found).astype(np.float32)


def product(batch: Shape, m: int, n: int, k: int, seed: int) -> Case:
    """One MATMUL_NT."""
    build = Builder()
    inputs = (build.state(ordinary(seed, (*batch, m, k))), build.state(ordinary(seed + 9, (*batch, n, k))))
    build.keep(build.op(Opcode.MATMUL_NT, inputs, (*batch, m, n)))
    return build.case()


def products(m: int, n: int, k: int) -> Case:
    """Products whose operands are views: transposed, of heads that stand side by side, all of one row."""
    build = Builder()
    left, right = build.state(ordinary(1, (m, k))), build.state(ordinary(2, (n, k)))
    left_turned, right_turned = build.state(ordinary(3, (k, m))), build.state(ordinary(4, (k, n)))
    heads = build.state(ordinary(5, (m, 3, k)))
    for one in (left, build.transposed(left_turned)):
        for other in (right, build.transposed(right_turned)):
            build.keep(build.op(Opcode.MATMUL_NT, (one, other), (m, n)))
    by_head = build.op(Opcode.VIEW, (heads,), (3, m, k), 0, k, 3 * k, 1)
    every = build.op(Opcode.VIEW, (right,), (3, n, k), 0, 0, k, 1)
    build.keep(build.op(Opcode.MATMUL_NT, (by_head, every), (3, m, n)))
    row = build.op(Opcode.VIEW, (left,), (m, k), 0, 0, 1)
    build.keep(build.op(Opcode.MATMUL_NT, (row, right), (m, n)))
    value = build.op(Opcode.CONST, (), (m, k), 0x3F800000)
    build.keep(build.op(Opcode.MATMUL_NT, (value, right), (m, n)))
    column = build.op(Opcode.VIEW, (left,), (m, k), 0, k, 0)
    build.keep(build.op(Opcode.MATMUL_NT, (column, right), (m, n)))
    return build.case()


def arithmetic(operands: Sequence[Array]) -> Case:
    """Every operation element by element, on up to three operands; all at once, so that they share passes."""
    build = Builder()
    numbers = [build.state(array) for array in operands]
    shape = operands[0].shape
    for code in sorted(ELEMENTWISE):
        build.keep(build.op(code, tuple(numbers[: ARITY[code][0]]), shape))
    return build.case()
