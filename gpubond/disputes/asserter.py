# SPDX-License-Identifier: Apache-2.0
"""The side that stands by its run: what it shows in a position (docs/disputes.md, section 2)."""

from __future__ import annotations

from gpubond.disputes import levels
from gpubond.disputes.execution import Execution
from gpubond.disputes.levels import Level
from gpubond.disputes.moves import Show, ShowAccumulators, ShowLeaf, ShowNodes, ShowTotals
from gpubond.disputes.position import Block, Elements, Nodes, Position, Side, Totals, reached
from gpubond.disputes.terms import Terms
from gpubond.exact import merkle
from gpubond.exact.commitments import content
from gpubond.exact.merkle import Kind, Tree
from gpubond.exact.refusal import Refused


class Asserter:
    """Shows its own run, and nothing else. It has no state: the same position gives the same show.

    Raises: Refused if the execution is not of these terms.
    """

    def __init__(self, execution: Execution, terms: Terms) -> None:
        check_terms(execution, terms)
        self._execution = execution

    def show(self, position: Position) -> Show:
        """Its next move. Raises Refused if it is not its turn; OSError."""
        if position.turn is not Side.ASSERTER:
            raise Refused("position.turn", position.turn.value, "the asserter has nothing to show here")
        doubt = position.doubt
        match doubt:
            case Nodes():
                below = levels.below(doubt.count, doubt.height, doubt.index)
                return ShowNodes(tree_in_doubt(self._execution, position, doubt).nodes(*below))
            case Elements():
                output = self._execution.output(reached(position.step), reached(position.op))
                return ShowLeaf(merkle.leaf_of(content(output), doubt.index))
            case Totals():
                return self._totals(position, doubt)
            case Block():
                place = (reached(position.step), reached(position.op), reached(position.element))
                return ShowAccumulators(self._execution.accumulators(*place, doubt.block)[:-1])
        raise Refused("position", position.level.value, "there is nothing to show here")

    def _totals(self, position: Position, doubt: Totals) -> ShowTotals:
        blocks = self._execution.blocks(reached(position.step), reached(position.op), reached(position.element))
        first, last = doubt.first, doubt.last
        sums = blocks.sums[first : last + 1] if levels.segment_blocks(first, last) == 1 else ()
        return ShowTotals(sums, tuple(blocks.totals[at] for at in levels.totals_shown(first, last)))


def check_terms(execution: Execution, terms: Terms) -> None:
    """Raises Refused, naming the field, unless the execution is of what the terms state."""
    for name, stated in vars(terms.statement).items():
        ours = getattr(execution.statement, name)
        if ours != stated:
            shown = [value.hex() if isinstance(value, bytes) else value for value in (ours, stated)]
            raise Refused(f"terms.{name}", shown[0], f"the terms of this game say {shown[1]}")


def tree_in_doubt(execution: Execution, position: Position, doubt: Nodes) -> Tree:
    """The tree of a level, as this execution has it."""
    match doubt.level:
        case Level.RUN:
            return merkle.tree_of(Kind.RUN, execution.checkpoints())
        case Level.INTERVAL:
            return merkle.tree_of(Kind.INTERVAL, execution.between(reached(position.checkpoint)))
        case Level.STEP:
            return merkle.tree_of(Kind.STEP, execution.outputs(reached(position.step)))
        case Level.STATE:
            return merkle.tree_of(Kind.STATE, execution.state_tensors(reached(position.step) + 1))
        case _:
            return merkle.elements_tree(content(execution.output(reached(position.step), reached(position.op))))
