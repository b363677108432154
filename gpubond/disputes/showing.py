# SPDX-License-Identifier: Apache-2.0
"""What a player shows of its own run, whichever side it is on (docs/disputes.md, section 2)."""

from __future__ import annotations

from collections.abc import Sequence

from gpubond.disputes import levels
from gpubond.disputes.execution import Execution
from gpubond.disputes.levels import KINDS, Below, Level, Side
from gpubond.disputes.position import Nodes, Position, reached
from gpubond.disputes.terms import Terms
from gpubond.exact import merkle
from gpubond.exact.commitments import content
from gpubond.exact.merkle import Tree
from gpubond.exact.refusal import Refused


class NothingWrong(Exception):
    """All that the other side showed is as this execution has it: there is nothing to pick, and the game is lost."""


def check_terms(execution: Execution, terms: Terms) -> None:
    """Raises Refused, naming the field, unless the execution is of what the terms state."""
    for name, stated in vars(terms.statement).items():
        ours = getattr(execution.statement, name)
        if ours != stated:
            shown = [value.hex() if isinstance(value, bytes) else value for value in (ours, stated)]
            raise Refused(f"terms.{name}", shown[0], f"the terms of this game say {shown[1]}")


def require_turn(position: Position, side: Side) -> None:
    """Raises Refused if it is the other side's turn."""
    if position.turn is not side:
        raise Refused("position.turn", position.turn.value, f"the {side.value} has no move here")


class Own:
    """Trees and their nodes, as an execution has them."""

    def __init__(self, execution: Execution) -> None:
        self._execution = execution

    def tree_of(self, level: Level, hashes: list[bytes]) -> Tree:
        """Of a level, but OUTPUT's."""
        return merkle.tree_of(KINDS[level], hashes)

    def run_tree(self) -> Tree:
        return self.tree_of(Level.RUN, self._execution.checkpoints())

    def output_tree(self, position: Position) -> Tree:
        """Of the output that was picked."""
        return self.output_tree_of(reached(position.step), reached(position.op))

    def output_tree_of(self, step: int, op: int) -> Tree:
        return merkle.elements_tree(content(self._execution.output(step, op)))

    def leaf(self, position: Position, index: int) -> bytes:
        """64 elements of the output that was picked."""
        output = self._execution.output(reached(position.step), reached(position.op))
        return merkle.leaf_of(content(output), index)

    def below(self, position: Position, doubt: Nodes) -> tuple[Below, tuple[bytes, ...]]:
        """The nodes below the one in doubt."""
        return doubt.below, self._tree(position, doubt.level).nodes(*doubt.below)

    def interval(self, checkpoint: int) -> tuple[bytes, ...]:
        """The first nodes of INTERVAL; none if it is passed over."""
        hashes = self._execution.between(checkpoint)
        return self._first_nodes(Level.INTERVAL, hashes) if hashes else ()

    def run(self) -> tuple[bytes, ...]:
        """The first nodes of RUN; none if it is passed over."""
        hashes = self._execution.checkpoints()
        return self._first_nodes(Level.RUN, hashes) if len(hashes) > 1 else ()

    def step(self, step: int) -> tuple[bytes, ...]:
        """The first nodes of STEP."""
        return self._first_nodes(Level.STEP, self._execution.outputs(step))

    def state(self, step: int) -> tuple[bytes, ...]:
        """The first nodes of STATE, of the state before a step; none if it is of one tensor."""
        hashes = self._execution.state_tensors(step)
        return self._first_nodes(Level.STATE, hashes) if len(hashes) > 1 else ()

    def output(self, step: int, op: int) -> tuple[bytes, ...]:
        """The first nodes of OUTPUT; none if it has no elements."""
        tree = self.output_tree_of(step, op)
        if not tree.count:
            return ()
        height = merkle.depth(tree.count)
        return tree.nodes(*levels.output_below(tree.count, height, 0, Side.ASSERTER))

    def _tree(self, position: Position, level: Level) -> Tree:
        match level:
            case Level.RUN:
                return self.run_tree()
            case Level.INTERVAL:
                hashes = self._execution.between(reached(position.checkpoint))
            case Level.STEP:
                hashes = self._execution.outputs(reached(position.step))
            case _:
                hashes = self._execution.state_tensors(reached(position.step) + 1)
        return self.tree_of(level, hashes)

    def _first_nodes(self, level: Level, hashes: list[bytes]) -> tuple[bytes, ...]:
        return self.tree_of(level, hashes).nodes(*levels.below(len(hashes), merkle.depth(len(hashes)), 0))


def first_unequal(ours: Sequence[object], theirs: Sequence[object]) -> int | None:
    """The place of the first that differs."""
    return next((at for at, (one, other) in enumerate(zip(ours, theirs, strict=True)) if one != other), None)


def found(at: int | None) -> int:
    """Raises NothingWrong if there is no such place."""
    if at is None:
        raise NothingWrong
    return at
