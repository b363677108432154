# SPDX-License-Identifier: Apache-2.0
"""Runs that a game is about, a right one and a wrong one, and players of them: one side has the one, one the other."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random

import numpy as np

from gpubond.disputes import levels
from gpubond.disputes.execution import Execution
from gpubond.disputes.levels import FREE, Level, Side
from gpubond.disputes.moves import (
    AnswerNodes,
    JudgeElement,
    JudgeJoin,
    JudgeRun,
    Move,
    PickCheckpoint,
    PickElement,
    PickLeaf,
    PickNode,
    PickOperation,
    PickSegment,
    PickState,
    PickStep,
    ShowNodes,
    ShowValues,
)
from gpubond.disputes.openings import Openings
from gpubond.disputes.position import (
    Element,
    Elements,
    Nodes,
    OneTensor,
    Output,
    Position,
    Reduction,
    reached,
)
from gpubond.disputes.records import Records
from gpubond.disputes.showing import Own
from gpubond.exact import merkle, reference, shapes
from gpubond.exact.merkle import LEAF_BYTES, LEAF_ELEMENTS
from gpubond.exact.program import Op, Opcode, Program, StateTensor
from gpubond.exact.reference import BLOCK
from gpubond.exact.runner import Task
from tests.disputes.liar import MASKS, FalseAccuser, Liar, Lie, LyingExecution
from tests.disputes.play import Honest, Opens, Player
from tests.disputes.tasks import single_task, summing_task, wide_task

# A run with two checkpoints; each level but TOTALS and BLOCK is one show, of which STATE is passed over.
USUAL = single_task(3, 2)


@dataclass(frozen=True)
class Runs:
    """Of one task."""

    honest: Honest
    wrong: LyingExecution

    @classmethod
    def of(cls, task: Task, lie: Lie | None = None) -> Runs:
        """lie: what is wrong in the wrong run; else the first element of the first output."""
        honest = Honest.of(task)
        found = lying(honest, lie or Lie(0, 0))
        assert found is not None, "a lie without an effect"
        return cls(honest, found)

    def pair(self, is_right: bool) -> tuple[Execution, Execution]:
        """What a provider has that computed right, or did not, and the other."""
        both = self.honest.execution, self.wrong
        return both if is_right else both[::-1]


def lying(honest: Honest, lie: Lie) -> LyingExecution | None:
    """An execution with this lie; None if whatever bit is turned changes nothing that is claimed."""
    for mask in MASKS:
        found = LyingExecution(honest.prepared, honest.task, replace(lie, mask=mask))
        found.go_on(honest.states[lie.step], honest.execution.checkpoints())
        if honest.challenger.disputes(found.run_root):
            return found
    return None


def large_task(elements: int) -> Task:
    """An operation whose output has so many elements."""
    shape = (elements,)
    program = Program((StateTensor(shape, 1),), (), (Op(Opcode.ADD, (0, 0), (shape, shape), shape),))
    initial = np.random.default_rng(7).standard_normal(elements, np.float32)
    return Task(program, [initial], [], 1, 1)


def every_function() -> list[Runs]:
    """In whose games each function of the contract is called, of both sides, where both have it."""
    long = summing_task(6 * BLOCK)
    return [
        Runs.of(USUAL),
        # The state after a step, of one tensor and of several.
        Runs.of(USUAL, Lie(1, tensor=0)),
        Runs.of(wide_task(), Lie(1, tensor=69)),
        Runs.of(wide_task(), Lie(1, 100)),
        # Levels of several shows.
        Runs.of(single_task(70, 1), Lie(68, 0)),
        Runs.of(single_task(70, 70), Lie(67, 0)),
        Runs.of(large_task(2_100), Lie(0, 0, element=2_099)),
        # A reduction with an end that is wrong, and with a total that is.
        Runs.of(long, Lie(0, 0, term=1_000)),
        Runs.of(long, Lie(0, 0, join=4)),
    ]


def asserter(execution: Execution) -> Player:
    """Stands by an execution, whatever it is."""
    return Liar(execution)


def challenger(execution: Execution) -> Opens:
    """Challenges with an execution, whatever it is."""
    return FalseAccuser(execution)


class Wild:
    """Either side, by chance: picks anything, and shows anything that has the right size."""

    def __init__(self, execution: Execution, chance: Random) -> None:
        self._execution, self._chance = execution, chance
        self._own, self._openings = Own(execution), Openings(execution)
        self._records = Records(execution.program)

    def opening(self) -> tuple[bytes, ...]:
        return self._junk(len(self._own.run()))

    def move(self, position: Position) -> Move:
        """A move that mostly is one by the rules."""
        match position.doubt:
            case Nodes() as doubt:
                return self._nodes(position, doubt)
            case Output() as doubt:
                return self._output(position, doubt)
            case Elements() as doubt:
                return self._elements(position, doubt)
            case Reduction() as doubt:
                return self._reduction(position, doubt)
            case Element():
                return JudgeElement(self._openings.element(position))
            case OneTensor():
                return self._openings.next_state(position, 0)

    def _junk(self, count: int) -> tuple[bytes, ...]:
        return tuple(self._chance.randbytes(32) for _ in range(count))

    def _index(self, below: levels.Below) -> int:
        return below.first + self._chance.randrange(below.nodes)

    def _nodes(self, position: Position, doubt: Nodes) -> Move:
        below = levels.below(doubt.count, doubt.height, doubt.index)
        if not doubt.shown:
            known = self._own.below(position, doubt)[1]
            return ShowNodes(known if doubt.node is not None else self._junk(below.nodes))
        index = self._index(below)
        if doubt.level in FREE and doubt.at_root and self._chance.random() < 0.3:
            if doubt.level is Level.STEP:
                return PickState(self._own.state(reached(position.step) + 1))
            return PickStep(None, self._steps())
        if below.height:
            return PickNode(index)
        if doubt.level is Level.STATE:
            return self._openings.next_state(position, index)
        if doubt.level is Level.INTERVAL:
            return PickStep(index, self._steps())
        if doubt.level is Level.STEP:
            return self._operation(position, index)
        leaf = merkle.hash_leaf(merkle.Kind.RUN, self._execution.checkpoints()[index])
        between = self._junk(len(self._own.interval(index)))
        return PickCheckpoint(index, leaf, self._own.run_tree().path(index), between)

    def _steps(self) -> tuple[bytes, ...]:
        return self._junk(len(self._own.step(0)))

    def _operation(self, position: Position, op: int) -> PickOperation:
        nodes = self._own.output(reached(position.step), op)
        return PickOperation(op, *self._records.operation(op), self._junk(len(nodes)))

    def _output(self, position: Position, doubt: Output) -> Move:
        last = doubt.last
        index = self._index(last)
        if not last.height:
            return PickLeaf(index, self._raw(position, index))
        side = position.turn
        below = levels.below(doubt.count, last.height, index, levels.output_levels_below(last.height, side))
        if side is Side.CHALLENGER:
            return AnswerNodes(index, self._junk(below.nodes))
        tree = self._own.output_tree(position)
        return AnswerNodes(index, tree.nodes(*below), tree.path(index << last.height)[last.height : doubt.height])

    def _raw(self, position: Position, index: int) -> bytes:
        held = min(LEAF_ELEMENTS, shapes.count(self._op(position).shape) - index * LEAF_ELEMENTS)
        return self._chance.randbytes(4 * held).ljust(LEAF_BYTES, b"\0")

    def _elements(self, position: Position, doubt: Elements) -> PickElement:
        op, ours = self._op(position), self._own.leaf(position, doubt.index)
        first = doubt.index * LEAF_ELEMENTS
        element = first + self._chance.randrange(min(LEAF_ELEMENTS, shapes.count(op.shape) - first))
        terms = reference.terms(op)
        if terms <= levels.RUN_TERMS:
            return PickElement(element, ours)
        at = 4 * (element - first)
        whole = Reduction(0, levels.blocks(terms) - 1, None, int.from_bytes(ours[at : at + 4], "little"))
        return PickElement(element, ours, self._values(terms, whole))

    def _op(self, position: Position) -> Op:
        return reached(position.operation)

    def _values(self, terms: int, doubt: Reduction) -> tuple[int, ...]:
        count = len(levels.totals_shown(doubt.first, doubt.last))
        if doubt.level is Level.BLOCK:
            count = levels.runs_shown(terms, doubt.first, doubt.last) + doubt.last - doubt.first
        return tuple(self._chance.getrandbits(32) for _ in range(count))

    def _reduction(self, position: Position, doubt: Reduction) -> Move:
        terms = reference.terms(self._op(position))
        if not doubt.values:
            return ShowValues(self._values(terms, doubt))
        if doubt.level is Level.TOTALS:
            return PickSegment(self._chance.randrange(len(levels.segments(doubt.first, doubt.last))))
        if self._chance.random() < 0.4:
            return JudgeJoin(self._chance.randint(doubt.first, doubt.last))
        run = self._chance.randrange(levels.runs_shown(terms, doubt.first, doubt.last))
        span = levels.run_terms(terms, doubt.first * levels.BLOCK_RUNS + run)
        return JudgeRun(run, self._openings.terms(position, *span))
