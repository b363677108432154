# SPDX-License-Identifier: Apache-2.0
"""The side that says a run is wrong: what it picks and shows in a position, and what it proves at the end."""

from __future__ import annotations

from gpubond.disputes import levels
from gpubond.disputes.execution import Execution
from gpubond.disputes.levels import Level, Side
from gpubond.disputes.moves import (
    AnswerNodes,
    JudgeElement,
    JudgeJoin,
    JudgeRun,
    Move,
    PickLeaf,
    PickNode,
    PickSegment,
    PickStep,
    ShowNodes,
)
from gpubond.disputes.openings import Openings
from gpubond.disputes.position import Element, Nodes, OneTensor, Output, Position, Reduction, reached
from gpubond.disputes.reductions import totals_of
from gpubond.disputes.showing import NothingWrong, Own, check_terms, first_unequal, found, require_turn
from gpubond.disputes.terms import Terms
from gpubond.exact import reference
from gpubond.exact.refusal import Refused


class Challenger:
    """Picks the first of what is shown that differs from its own run, and shows its own. It has no state.

    Raises: Refused if the execution is not of these terms.
    """

    def __init__(self, execution: Execution, terms: Terms) -> None:
        check_terms(execution, terms)
        self._take(execution)

    def _take(self, execution: Execution) -> None:
        self._execution = execution
        self._own = Own(execution)
        self._openings = Openings(execution)

    def disputes(self, run_root: bytes) -> bool:
        """Whether a run that was committed to is another than this execution's, so that a game can be won."""
        return self._execution.run_root != run_root

    def opening(self) -> tuple[bytes, ...]:
        """The nodes that a game is opened with."""
        return self._own.run()

    def move(self, position: Position) -> Move:
        """Its next move. Raises NothingWrong; Refused if it is not its turn; OSError."""
        require_turn(position, Side.CHALLENGER)
        match position.doubt:
            case Nodes() as doubt if not doubt.shown:
                return ShowNodes(self._own.below(position, doubt)[1])
            case Nodes() as doubt:
                return self._in_nodes(position, doubt)
            case Output() as doubt:
                return self._in_output(position, doubt)
            case Element():
                return JudgeElement(self._openings.element(position))
            case Reduction() as doubt:
                return self._in_reduction(position, doubt)
            case OneTensor():
                return self._openings.next_state(position, 0)
        raise Refused("position", position.level.value, "there is nothing to show here")

    def _in_nodes(self, position: Position, doubt: Nodes) -> Move:
        below, ours = self._own.below(position, doubt)
        at = first_unequal(ours, doubt.shown)
        if doubt.level is Level.INTERVAL:
            return self._in_interval(position, doubt, None if at is None else at + below.first, below.height)
        index = found(at) + below.first
        return PickNode(index) if below.height else self._openings.next_state(position, index)

    def _in_interval(self, position: Position, doubt: Nodes, index: int | None, height: int) -> Move:
        begins, ends = position.terms.interval(reached(position.checkpoint))
        if index is None and not doubt.at_root:
            raise NothingWrong
        if index is None:
            return PickStep(None, self._own.step(ends - 1))
        return PickNode(index) if height else PickStep(index, self._own.step(begins + index))

    def _in_output(self, position: Position, doubt: Output) -> AnswerNodes | PickLeaf:
        last, tree = doubt.last, self._own.output_tree(position)
        index = found(first_unequal(tree.nodes(*last), doubt.shown)) + last.first
        if not last.height:
            return PickLeaf(index, self._own.leaf(position, index))
        return AnswerNodes(index, tree.nodes(*doubt.below(index)))

    def _in_reduction(self, position: Position, doubt: Reduction) -> Move:
        place = reached(position.step), reached(position.op), reached(position.element)
        ours = self._execution.blocks(*place).totals
        if doubt.level is Level.TOTALS:
            ends = [last for _, last in levels.segments(doubt.first, doubt.last)]
            return PickSegment(found(first_unequal([ours[end] for end in ends], (*doubt.values, doubt.after))))
        terms = reference.terms(reached(position.operation))
        totals = totals_of(position, doubt)
        begins = 0
        for at, block in enumerate(range(doubt.first, doubt.last + 1)):
            accumulators = self._execution.accumulators(*place, block)
            run = first_unequal(accumulators, doubt.values[begins : begins + len(accumulators)])
            if run is not None:
                terms_of_run = levels.run_terms(terms, block * levels.BLOCK_RUNS + run)
                return JudgeRun(begins + run, self._openings.terms(position, *terms_of_run))
            if ours[block] != totals[at]:
                return JudgeJoin(block)
            begins += len(accumulators)
        raise NothingWrong
