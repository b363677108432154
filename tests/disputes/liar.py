# SPDX-License-Identifier: Apache-2.0
"""An asserter whose execution is wrong at one chosen place, which goes on from there as if it were right."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from gpubond.disputes.asserter import Asserter
from gpubond.disputes.challenger import Challenger
from gpubond.disputes.execution import Execution
from gpubond.disputes.levels import RUN_TERMS
from gpubond.disputes.moves import Move
from gpubond.disputes.position import Position
from gpubond.disputes.showing import NothingWrong
from gpubond.exact import commitments, prefixes, reference, scalar, shapes
from gpubond.exact.engine import Array, OnOutput, Prepared
from gpubond.exact.float_environment import standard
from gpubond.exact.numpy_engine import output_of
from gpubond.exact.program import Op, Opcode, Program
from gpubond.exact.reference import BLOCK, Blocks
from gpubond.exact.refusal import Refused
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


MASKS = (1 << 31, 1 << 27, 1 << 23, 1 << 20, 1)


def turned(array: Array, element: int, mask: int) -> Array:
    """A copy with bits of one element turned."""
    copied = np.array(array, np.float32, order="C")
    copied.reshape(-1).view(np.uint32)[element] ^= np.uint32(mask)
    return copied


def block_with_lie(op: Op, inputs: Sequence[Array], lie: Lie, block: int) -> list[int]:
    """The accumulators of a block after each of its terms, one of them turned."""
    rows = [row.view(np.uint32) for row in map(np.ascontiguousarray, prefixes.rows_of(op, inputs, lie.element))]
    accumulator = reference.identity(op)
    found = []
    for at in range(block * BLOCK, min((block + 1) * BLOCK, reference.terms(op))):
        if op.code is Opcode.ROWMAX:
            accumulator = scalar.maximum(accumulator, int(rows[0][at]))
        else:
            accumulator = scalar.fma(int(rows[0][at]), int(rows[1][at]) if len(rows) > 1 else scalar.ONE, accumulator)
        if lie.term == at:
            accumulator ^= lie.mask
        found.append(accumulator)
    return found


def blocks_with_lie(op: Op, inputs: Sequence[Array], lie: Lie) -> Blocks:
    """Sums and totals that follow from a lie about a term or a join."""
    sums = list(prefixes.blocks_of(op, inputs, lie.element).sums)
    if lie.term is not None:
        sums[lie.term // BLOCK] = block_with_lie(op, inputs, lie, lie.term // BLOCK)[-1]
    totals: list[int] = []
    for block, block_sum in enumerate(sums):
        total = reference.join(op, totals[-1], block_sum) if totals else block_sum
        totals.append(total ^ lie.mask if lie.join == block else total)
    return Blocks(tuple(sums), tuple(totals))


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
        bits = blocks_with_lie(op, inputs, lie).totals[-1]
        changed = np.array(output, np.float32, order="C")
        changed.reshape(-1).view(np.uint32)[lie.element] = np.uint32(bits)
        return changed


class LyingExecution(Execution):
    """What follows from a lie, told consistently."""

    def __init__(self, prepared: Prepared, task: Task, lie: Lie) -> None:
        super().__init__(LyingPrepared(task.program, prepared, lie), task)
        self.lie = lie
        self._right: list[bytes] = []

    def go_on(self, state: Sequence[Array], checkpoints: list[bytes]) -> None:
        """Saves computing what comes before the lie: the state there, and the right checkpoints."""
        self.remember(self.lie.step, state)
        self._right = checkpoints[: self.lie.step // self.task.interval]

    def _all_checkpoints(self) -> list[bytes]:
        found = list(self._right)
        for number in range(len(found), commitments.checkpoints(self.task.steps, self.task.interval)):
            found.append(commitments.state(self.state(self.statement.bounds(number)[1])))
        return found

    def outputs(self, step: int) -> list[bytes]:
        """Of what it says itself, also of an operation whose output everybody knows beforehand."""
        found: list[bytes] = []
        self._prepared.step(
            self.state(step), self.task.data, step, lambda _, array: found.append(commitments.tensor(array))
        )
        return found

    def blocks(self, step: int, op: int, element: int) -> Blocks:
        if self._is_place(step, op, element):
            return blocks_with_lie(self.program.ops[op], self.inputs(step, op), self.lie)
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
        found = block_with_lie(self.program.ops[op], self.inputs(step, op), self.lie, block)
        return tuple(found[min(at + RUN_TERMS, len(found)) - 1] for at in range(0, len(found), RUN_TERMS))

    def _is_place(self, step: int, op: int, element: int) -> bool:
        lie = self.lie
        there = (step, op, element) == (lie.step, lie.op, lie.element)
        return there and (lie.term is not None or lie.join is not None)

    def _bits(self, step: int, op: int, element: int) -> int:
        return int(np.ascontiguousarray(self.output(step, op)).reshape(-1).view(np.uint32)[element])


class Liar(Asserter):
    """Shows whatever its execution says, of these terms or not."""

    def __init__(self, execution: Execution) -> None:
        self._take(execution)

    def move(self, position: Position) -> Move:
        with _of_its_own_run():
            return super().move(position)


class FalseAccuser(Challenger):
    """Shows whatever its execution says, of these terms or not."""

    def __init__(self, execution: Execution) -> None:
        self._take(execution)

    def move(self, position: Position) -> Move:
        with _of_its_own_run():
            return super().move(position)


@contextmanager
def _of_its_own_run() -> Iterator[None]:
    """A run of other terms may have no such place: there is nothing to show."""
    try:
        yield
    except Refused:
        raise
    except (ValueError, IndexError) as error:
        raise NothingWrong from error


@dataclass
class Changes:
    """What a Tampered execution says instead. Each takes what is right, and where that stands."""

    checkpoints: Callable[[list[bytes]], list[bytes]] = lambda hashes: hashes
    between: Callable[[int, list[bytes]], list[bytes]] = lambda checkpoint, hashes: hashes
    outputs: Callable[[int, list[bytes]], list[bytes]] = lambda step, hashes: hashes
    state: Callable[[int], int] = lambda step: step


class Tampered(Execution):
    """Says other commitments than those of what it computed, or other states."""

    def __init__(self, prepared: Prepared, task: Task, changes: Changes) -> None:
        super().__init__(prepared, task)
        self.changes = changes

    def checkpoints(self) -> list[bytes]:
        return self.changes.checkpoints(super().checkpoints())

    def between(self, checkpoint: int) -> list[bytes]:
        return self.changes.between(checkpoint, super().between(checkpoint))

    def outputs(self, step: int) -> list[bytes]:
        return self.changes.outputs(step, super().outputs(step))

    def state(self, step: int) -> Sequence[Array]:
        return super().state(self.changes.state(step))


def edges(task: Task) -> list[Lie]:
    """Of all places those where something begins or ends: leaves, runs, blocks, tensors."""
    return [lie for lie in places(task) if _at_edge(task, lie)]


def _at_edge(task: Task, lie: Lie) -> bool:
    if lie.op is None:
        return True
    op = task.program.ops[lie.op]
    last = shapes.count(op.shape) - 1
    if lie.element not in (0, 63, 64, last - last % 64, last):
        return False
    if lie.term is None:
        return True
    return lie.term % BLOCK in (0, 15, 16, BLOCK - 1) or lie.term == reference.terms(op) - 1


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
