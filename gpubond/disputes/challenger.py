# SPDX-License-Identifier: Apache-2.0
"""The side that says a run is wrong: what it picks in a position, and what it shows at the end."""

from __future__ import annotations

from collections.abc import Sequence

from gpubond.disputes import levels
from gpubond.disputes.asserter import check_terms, tree_in_doubt
from gpubond.disputes.execution import Execution
from gpubond.disputes.levels import FREE, Level
from gpubond.disputes.moves import (
    Judge,
    JudgeElement,
    JudgeJoin,
    JudgeRun,
    JudgeState,
    Move,
    PickBlock,
    PickElement,
    PickNode,
    PickSegment,
)
from gpubond.disputes.openings import Openings
from gpubond.disputes.position import Block, Elements, Nodes, Position, Side, Totals, reached
from gpubond.disputes.terms import Terms
from gpubond.exact import merkle, reference
from gpubond.exact.commitments import content
from gpubond.exact.merkle import LEAF_ELEMENTS
from gpubond.exact.refusal import Refused


class NothingWrong(Exception):
    """All that the asserter showed is as this execution has it: there is nothing to pick, and the game is lost."""


class Challenger:
    """Picks the first of what is shown that differs from its own run. It has no state: a position gives one move.

    Raises: Refused if the execution is not of these terms.
    """

    def __init__(self, execution: Execution, terms: Terms) -> None:
        check_terms(execution, terms)
        self._execution = execution
        self._openings = Openings(execution)

    def disputes(self, run_root: bytes) -> bool:
        """Whether a run that was committed to is another than this execution's, so that a game can be won."""
        return self._execution.run_root != run_root

    def pick(self, position: Position) -> Move:
        """Its next move. Raises NothingWrong; Refused if it is not its turn; OSError."""
        if position.turn is not Side.CHALLENGER:
            raise Refused("position.turn", position.turn.value, "the challenger waits for what is shown")
        doubt = position.doubt
        match doubt:
            case Nodes():
                return self._in_nodes(position, doubt)
            case Elements():
                return self._in_elements(position, doubt)
            case Totals():
                return self._in_totals(position, doubt)
            case Block():
                return self._in_block(position, doubt)

    def _in_nodes(self, position: Position, doubt: Nodes) -> Move:
        below = levels.below(doubt.count, doubt.height, doubt.index)
        ours = tree_in_doubt(self._execution, position, doubt).nodes(*below)
        at = _first_unequal(ours, doubt.shown)
        if at is None:
            return self._none_wrong(position, doubt)
        if below.height == 0 and doubt.level is Level.STEP:
            return self._openings.operation(at + below.first)
        if below.height == 0 and doubt.level is Level.STATE:
            return self._openings.next_state(position, at + below.first)
        return PickNode(at + below.first)

    def _none_wrong(self, position: Position, doubt: Nodes) -> PickNode | JudgeState:
        if doubt.level not in FREE or not doubt.at_root:
            raise NothingWrong
        if doubt.level is Level.STEP and position.terms.statement.state_count == 1:
            return self._openings.next_state(position, 0)
        return PickNode(None)

    def _in_elements(self, position: Position, doubt: Elements) -> PickElement | JudgeElement:
        step, op = reached(position.step), reached(position.op)
        operation = self._execution.program.ops[op]
        ours = merkle.leaf_of(content(self._execution.output(step, op)), doubt.index)
        for at in range(0, len(ours), 4):
            if ours[at : at + 4] != doubt.raw[at : at + 4]:
                element = doubt.index * LEAF_ELEMENTS + at // 4
                break
        else:
            raise NothingWrong
        if reference.terms(operation) > levels.RUN_TERMS:
            return PickElement(element)
        return JudgeElement(element, self._openings.element(position, element))

    def _in_totals(self, position: Position, doubt: Totals) -> PickSegment | PickBlock | JudgeJoin:
        blocks = self._execution.blocks(reached(position.step), reached(position.op), reached(position.element))
        totals = (*doubt.totals, doubt.after)
        if not doubt.sums:
            ends = [last for _, last in levels.segments(doubt.first, doubt.last)]
            at = _first_unequal([blocks.totals[end] for end in ends], totals)
            if at is None:
                raise NothingWrong
            return PickSegment(at)
        for at, block in enumerate(range(doubt.first, doubt.last + 1)):
            if doubt.sums[at] != blocks.sums[block]:
                return PickBlock(block)
            if totals[at] != blocks.totals[block]:
                return JudgeJoin(block)
        raise NothingWrong

    def _in_block(self, position: Position, doubt: Block) -> Judge:
        place = (reached(position.step), reached(position.op), reached(position.element))
        ours = self._execution.accumulators(*place, doubt.block)
        run = _first_unequal(ours, (*doubt.accumulators, doubt.total))
        if run is None:
            raise NothingWrong
        operation = self._execution.program.ops[reached(position.op)]
        first, last = levels.run_terms(reference.terms(operation), doubt.block, run)
        return JudgeRun(run, self._openings.terms(position, reached(position.element), first, last))


def _first_unequal(ours: Sequence[object], theirs: Sequence[object]) -> int | None:
    return next((at for at, (one, other) in enumerate(zip(ours, theirs, strict=True)) if one != other), None)
