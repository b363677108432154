# SPDX-License-Identifier: Apache-2.0
"""An asserter whose execution is wrong at one chosen place, which goes on from there as if it were right."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from gpubond.disputes.asserter import Asserter
from gpubond.disputes.execution import Execution
from gpubond.exact import prefixes, reference, scalar, shapes
from gpubond.exact.engine import Array, OnOutput, Prepared
from gpubond.exact.float_environment import standard
from gpubond.exact.numpy_engine import output_of
from gpubond.exact.program import Op, Opcode, Program
from gpubond.exact.reference import BLOCK, Blocks
from gpubond.exact.runner import Task


@dataclass(frozen=True)
class Lie:
    """Where. step: from 0. mask: bits that are turned.

    op, element: of an operation's output. term: the accumulator after this term of a reduction is wrong, and what
    follows from it; join: the total after this block. tensor, element: of the next state, whose outputs are right.
    """

    step: int
    op: int | None = None
    element: int = 0
    term: int | None = None
    join: int | None = None
    tensor: int | None = None
    mask: int = 1


def turned(array: Array, element: int, mask: int) -> Array:
    """A copy with bits of one element turned."""
    copied = np.array(array, np.float32, order="C")
    copied.reshape(-1).view(np.uint32)[element] ^= np.uint32(mask)
    return copied


def chain(op: Op, inputs: Sequence[Array], lie: Lie) -> tuple[Blocks, list[tuple[int, ...]]]:
    """Sums and totals, and the accumulators after each term of each block, with one of them turned."""
    rows = [row.view(np.uint32).tolist() for row in map(np.ascontiguousarray, prefixes.rows_of(op, inputs, lie.element))]
    count = reference.terms(op)
    sums: list[int] = []
    totals: list[int] = []
    accumulators: list[tuple[int, ...]] = []
    for block, begin in enumerate(range(0, count, BLOCK)):
        accumulator = reference.identity(op)
        within = []
        for at in range(begin, min(begin + BLOCK, count)):
            if op.code is Opcode.ROWMAX:
                accumulator = scalar.maximum(accumulator, rows[0][at])
            else:
                accumulator = scalar.fma(rows[0][at], rows[1][at] if len(rows) > 1 else scalar.ONE, accumulator)
            if lie.term == at:
                accumulator ^= lie.mask
            within.append(accumulator)
        sums.append(accumulator)
        total = accumulator if block == 0 else reference.join(op, totals[-1], accumulator)
        totals.append(total ^ lie.mask if lie.join == block else total)
        accumulators.append(tuple(within))
    return Blocks(tuple(sums), tuple(totals)), accumulators


class LyingPrepared:
    """A program that is run with one lie."""

    def __init__(self, program: Program, prepared: Prepared, lie: Lie) -> None:
        self.memory_bytes = prepared.memory_bytes
        self._program, self._prepared, self._lie = program, prepared, lie

    def step(
        self, state: Sequence[Array], data: Sequence[Array], step: int, on_output: OnOutput | None = None
    ) -> list[Array]:
        if step != self._lie.step:
            return self._prepared.step(state, data, step, on_output)
        with standard(), np.errstate(all="ignore"):
            return self._step(state, data, step, on_output)

    def _step(
        self, state: Sequence[Array], data: Sequence[Array], step: int, on_output: OnOutput | None
    ) -> list[Array]:
        lie = self._lie
        tensors = [*state, *(array[step % array.shape[0], ...] for array in data)]
        for index, op in enumerate(self._program.ops):
            inputs = [np.asarray(tensors[number], np.float32) for number in op.inputs]
            output = output_of(op, inputs, step, index)
            if index == lie.op:
                output = self._wrong(op, inputs, output)
            tensors.append(output)
            if on_output is not None:
                on_output(index, output)
        following = [np.array(tensors[tensor.next], np.float32, order="C") for tensor in self._program.state]
        if lie.tensor is not None:
            following[lie.tensor] = turned(following[lie.tensor], lie.element, lie.mask)
        return following

    def _wrong(self, op: Op, inputs: Sequence[Array], output: Array) -> Array:
        lie = self._lie
        if lie.term is None and lie.join is None:
            return turned(output, lie.element, lie.mask)
        bits = chain(op, inputs, lie)[0].totals[-1]
        changed = np.array(output, np.float32, order="C")
        changed.reshape(-1).view(np.uint32)[lie.element] = np.uint32(bits)
        return changed


class LyingExecution(Execution):
    """What follows from a lie, told consistently."""

    def __init__(self, prepared: Prepared, task: Task, lie: Lie) -> None:
        super().__init__(LyingPrepared(task.program, prepared, lie), task)
        self.lie = lie

    def blocks(self, step: int, op: int, element: int) -> Blocks:
        if self._is_place(step, op, element):
            return chain(self.program.ops[op], self.inputs(step, op), self.lie)[0]
        found = super().blocks(step, op, element)
        if (step, op, element) != (self.lie.step, self.lie.op, self.lie.element):
            return found
        # All is right but the end, which was already shown.
        bits = self._bits(step, op, element)
        if len(found.sums) == 1:
            return Blocks((bits,), (bits,))
        return Blocks(found.sums, (*found.totals[:-1], bits))

    def accumulators(self, step: int, op: int, element: int, block: int) -> tuple[int, ...]:
        if not self._is_place(step, op, element):
            return super().accumulators(step, op, element, block)
        found = chain(self.program.ops[op], self.inputs(step, op), self.lie)[1][block]
        return tuple(found[min(at + 16, len(found)) - 1] for at in range(0, len(found), 16))

    def _is_place(self, step: int, op: int, element: int) -> bool:
        lie = self.lie
        there = (step, op, element) == (lie.step, lie.op, lie.element)
        return there and (lie.term is not None or lie.join is not None)

    def _bits(self, step: int, op: int, element: int) -> int:
        return int(np.ascontiguousarray(self.output(step, op)).reshape(-1).view(np.uint32)[element])


class Liar(Asserter):
    """Shows whatever its execution says, of these terms or not."""

    def __init__(self, execution: Execution) -> None:
        self._execution = execution


@dataclass
class JunkHashes(Execution):
    """Commitments that are of nothing: see the tests."""

    change: Callable[[str, int, list[bytes]], list[bytes]] = field(default=lambda name, place, hashes: hashes)


def places(task: Task) -> list[Lie]:
    """Every place of a run where one value can be wrong: outputs, the next state, accumulators, totals."""
    found = []
    for step in range(task.steps):
        for op, record in enumerate(task.program.ops):
            found += [Lie(step, op, element) for element in range(shapes.count(record.shape))]
            for element in range(shapes.count(record.shape)) if reference.terms(record) else ():
                terms = reference.terms(record)
                found += [Lie(step, op, element, term=term) for term in range(terms)]
                found += [Lie(step, op, element, join=block) for block in range(-(-terms // BLOCK))]
        for tensor, held in enumerate(task.program.state):
            found += [Lie(step, tensor=tensor, element=element) for element in range(shapes.count(held.shape))]
    return found
