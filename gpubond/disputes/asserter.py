# SPDX-License-Identifier: Apache-2.0
"""The side that stands by its run: what it picks and shows in a position (docs/disputes.md, section 2)."""

from __future__ import annotations

from dataclasses import replace

from gpubond.disputes import levels
from gpubond.disputes.execution import Execution
from gpubond.disputes.levels import Level, Side
from gpubond.disputes.moves import (
    AnswerNodes,
    Move,
    PickCheckpoint,
    PickElement,
    PickNode,
    PickOperation,
    PickState,
    ShowNodes,
    ShowValues,
)
from gpubond.disputes.position import Elements, Nodes, Output, Position, Reduction, reached
from gpubond.disputes.records import Records
from gpubond.disputes.showing import Own, check_terms, first_unequal, found, require_turn
from gpubond.disputes.terms import Terms
from gpubond.exact import merkle, reference
from gpubond.exact.merkle import LEAF_ELEMENTS, Kind
from gpubond.exact.refusal import Refused


class Asserter:
    """Shows its own run, and nothing else. It has no state: the same position gives the same move.

    Raises: Refused if the execution is not of these terms.
    """

    def __init__(self, execution: Execution, terms: Terms) -> None:
        check_terms(execution, terms)
        self._take(execution)

    def _take(self, execution: Execution) -> None:
        self._execution = execution
        self._own = Own(execution)
        self._records = Records(execution.program)

    def move(self, position: Position) -> Move:
        """Its next move. Raises NothingWrong; Refused if it is not its turn; OSError."""
        require_turn(position, Side.ASSERTER)
        match position.doubt:
            case Nodes() as doubt if not doubt.shown:
                return ShowNodes(self._own.below(position, doubt)[1])
            case Nodes() as doubt:
                return self._in_nodes(position, doubt)
            case Output() as doubt:
                return self._in_output(position, doubt)
            case Elements() as doubt:
                return self._in_elements(position, doubt)
            case Reduction() as doubt:
                return ShowValues(self.values(position, doubt))
        raise Refused("position", position.level.value, "there is nothing to show here")

    def values(self, position: Position, doubt: Reduction) -> tuple[int, ...]:
        """What is shown of blocks of the element that was picked."""
        place = reached(position.step), reached(position.op), reached(position.element)
        totals = self._execution.blocks(*place).totals
        if doubt.level is Level.TOTALS:
            return tuple(totals[at] for at in levels.totals_shown(doubt.first, doubt.last))
        blocks = range(doubt.first, doubt.last + 1)
        accumulators = (value for block in blocks for value in self._execution.accumulators(*place, block))
        return (*accumulators, *totals[doubt.first : doubt.last])

    def _in_nodes(self, position: Position, doubt: Nodes) -> Move:
        below, ours = self._own.below(position, doubt)
        at = first_unequal(ours, doubt.shown)
        if at is None and doubt.level is Level.STEP and doubt.at_root:
            return PickState(self._own.state(reached(position.step) + 1))
        index = found(at) + below.first
        if below.height:
            return PickNode(index)
        if doubt.level is Level.RUN:
            leaf = merkle.hash_leaf(Kind.RUN, self._execution.checkpoints()[index])
            return PickCheckpoint(index, leaf, self._own.run_tree().path(index), self._own.interval(index))
        nodes = self._own.output(reached(position.step), index)
        return PickOperation(index, *self._records.operation(index), nodes)

    def _in_output(self, position: Position, doubt: Output) -> AnswerNodes:
        last, tree = doubt.last, self._own.output_tree(position)
        index = found(first_unequal(tree.nodes(*last), doubt.shown)) + last.first
        path = tree.path(index << last.height)[last.height : doubt.height]
        return AnswerNodes(index, tree.nodes(*doubt.below(index)), path)

    def _in_elements(self, position: Position, doubt: Elements) -> PickElement:
        ours, theirs = self._own.leaf(position, doubt.index), doubt.theirs
        words = range(0, len(ours), 4)
        at = found(first_unequal([ours[at : at + 4] for at in words], [theirs[at : at + 4] for at in words]))
        element = doubt.index * LEAF_ELEMENTS + at
        terms = reference.terms(reached(position.operation))
        if terms <= levels.RUN_TERMS:
            return PickElement(element, ours)
        bits = int.from_bytes(ours[4 * at : 4 * at + 4], "little")
        whole = Reduction(0, levels.blocks(terms) - 1, None, bits)
        picked = replace(position, element=element)
        return PickElement(element, ours, self.values(picked, whole))
