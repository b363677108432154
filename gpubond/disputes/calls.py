# SPDX-License-Identifier: Apache-2.0
"""Moves as calls of `DisputeGame`: with the position that they answer, and the paths that the contract asks for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gpubond.chain.contracts import Call
from gpubond.chain.game_words import NONE
from gpubond.chain.games import DisputeGame
from gpubond.disputes import levels
from gpubond.disputes.execution import Execution
from gpubond.disputes.followed import Followed, values_bytes
from gpubond.disputes.levels import Level
from gpubond.disputes.moves import (
    JudgeElement,
    JudgeJoin,
    JudgeRun,
    JudgeState,
    Move,
    Operand,
    PickBlock,
    PickElement,
    PickNode,
    PickOperation,
    PickSegment,
    ShowAccumulators,
    ShowLeaf,
    Shown,
    ShowNodes,
    ShowTotals,
)
from gpubond.disputes.openings import path_in
from gpubond.disputes.position import Block, Elements, Nodes, Totals, reached
from gpubond.exact import merkle, shapes
from gpubond.exact.commitments import tensor_of_root
from gpubond.exact.merkle import LEAF_ELEMENTS, Kind, Opening, Tree
from gpubond.exact.program import parse_record, parse_state_record

_NO_HASH = bytes(32)


def call_of(contract: DisputeGame, game_id: bytes, game: Followed, execution: Execution, move: Move) -> Call:
    """The call that makes a move.

    Args:
        contract: of the deployment.
        game_id: 32 bytes.
        game: where it stands.
        execution: the mover's own run, for what stands beside the paths.
        move: by the rules a right one.
    """
    name, arguments = _CALLS[type(move)]
    level = game.position.level.value
    words = f"{name.replace('_', ' ')} at level {level}"
    args = arguments(_Encoder(game, execution), move)
    return contract.move(name, words, game_id, game.stored.as_tuple(), *args)


class _Encoder:
    """The arguments of each move behind game and position."""

    def __init__(self, game: Followed, execution: Execution) -> None:
        self._game = game
        self._execution = execution
        self._position = game.position
        self._way = game.way.as_tuple()
        self._origin = game.origin.as_tuple()

    # The asserter's.

    def show_nodes(self, move: ShowNodes) -> tuple[Any, ...]:
        doubt = self._nodes()
        below = levels.levels_below(doubt.height)
        held = min(1 << below, ((doubt.count - 1) >> (doubt.height - below)) + 1 - (doubt.index << below))
        first = doubt.at_root and doubt.level is not Level.RUN
        return [self._way] if first else [], list(self._way_up(doubt)), list(move.nodes[:held])

    def show_leaf(self, move: ShowLeaf) -> tuple[Any, ...]:
        doubt = self._position.doubt
        assert isinstance(doubt, Elements)  # noqa: S101 - by the rules
        if doubt.node is None:
            return [self._way], list(self._shown_path(reached(self._position.op))), move.raw
        return [], list(self._shown_path(doubt.index)), move.raw

    def show_totals(self, move: ShowTotals) -> tuple[Any, ...]:
        return (values_bytes((*move.sums, *move.totals)),)

    def show_accumulators(self, move: ShowAccumulators) -> tuple[Any, ...]:
        return (values_bytes(move.accumulators),)

    def _way_up(self, doubt: Nodes) -> tuple[bytes, ...]:
        """From what was picked up to the node that the contract knows."""
        if not doubt.at_root:
            return self._shown_path(doubt.index)
        if doubt.level is Level.STATE:
            tree, at = self._following_tree()
            return tree.path(at)
        if doubt.level is Level.OUTPUT:
            return self._shown_path(reached(self._position.op))
        return ()

    # The challenger's.

    def pick_node(self, move: PickNode) -> tuple[Any, ...]:
        return (NONE if move.index is None else self._among(move.index),)

    def pick_operation(self, move: PickOperation) -> tuple[Any, ...]:
        hashed, path = _NO_HASH, tuple[bytes, ...]()
        if shapes.count(parse_record(move.record, "record").shape) == 0:
            nodes = self._game.nodes
            assert nodes is not None  # noqa: S101 - they were shown before something is picked
            hashed, path = nodes.nodes[move.op - nodes.first], self._shown_path(move.op)
        index = self._among(move.op)
        return self._way, self._origin, index, move.record, list(move.path), hashed, list(path)

    def pick_element(self, move: PickElement) -> tuple[Any, ...]:
        return self._game.raw, move.element % LEAF_ELEMENTS

    def pick_segment(self, move: PickSegment) -> tuple[Any, ...]:
        return self._game.raw, move.segment

    def pick_block(self, move: PickBlock) -> tuple[Any, ...]:
        return self._game.raw, self._block(move.block)

    def judge_join(self, move: JudgeJoin) -> tuple[Any, ...]:
        return self._way, self._origin, self._game.raw, self._block(move.block)

    def judge_element(self, move: JudgeElement) -> tuple[Any, ...]:
        at = move.element % LEAF_ELEMENTS
        return self._way, self._origin, self._game.raw, at, self._evidence(move.shown)

    def judge_run(self, move: JudgeRun) -> tuple[Any, ...]:
        doubt = self._position.doubt
        shown = self._game.raw if isinstance(doubt, Block) and doubt.accumulators else b""
        return self._way, self._origin, shown, move.run, self._evidence(move.shown)

    def judge_state(self, move: JudgeState) -> tuple[Any, ...]:
        count = self._position.terms.statement.state_count
        if count == 1:
            assert self._position.following is not None  # noqa: S101 - beyond INTERVAL
            index, hashed = 0, self._position.following.hash
            tree, at = self._following_tree()
            path = path_in(self._position.seen, tree, at)
        else:
            nodes = self._game.nodes
            assert nodes is not None  # noqa: S101 - they were shown
            index = move.tensor - nodes.first
            hashed, path = nodes.nodes[index], nodes.path(index)
        number, state = parse_state_record(move.record, "record").next, _NO_HASH
        if number < count:
            leaf = merkle.hash_leaf(Kind.STATE, move.commitment)
            state = Opening(Kind.STATE, count, number, leaf, move.path).root()
        following = (hashed, list(path), move.commitment, list(move.path), state, list(move.state_path))
        return self._way, self._origin, index, (move.record, list(move.record_path), *following)

    def _evidence(self, shown: Shown) -> tuple[Any, ...]:
        operation, step = self._position.operation, reached(self._position.step)
        assert operation is not None  # noqa: S101 - beyond STEP
        count, state = self._position.terms.statement.state_count, _NO_HASH
        sources, operands = [], []
        for number, shape, operand in zip(operation.inputs, operation.input_shapes, shown.operands, strict=True):
            sources.append((operand.slices, list(operand.path)))
            operands.append(_operand(operand, shapes.count(shape), step))
            if operand.leaves and number < count:
                leaf = merkle.hash_leaf(Kind.STATE, tensor_of_root(shape, operand.root))
                state = Opening(Kind.STATE, count, number, leaf, operand.path).root()
        return self._position.record, state, list(shown.state_path), sources, operands

    # Both sides'.

    def _nodes(self) -> Nodes:
        doubt = self._position.doubt
        assert isinstance(doubt, Nodes)  # noqa: S101 - by the rules
        return doubt

    def _among(self, number: int) -> int:
        """A node's place among those shown last, from its number from the left."""
        doubt = self._nodes()
        return number - (doubt.index << levels.levels_below(doubt.height))

    def _block(self, block: int) -> int:
        doubt = self._position.doubt
        assert isinstance(doubt, Totals)  # noqa: S101 - by the rules
        return block - doubt.first

    def _shown_path(self, number: int) -> tuple[bytes, ...]:
        """From a node among those shown last, by its number from the left, up to the node above them."""
        nodes = self._game.nodes
        return () if nodes is None else nodes.path(number - nodes.first)

    def _following_tree(self) -> tuple[Tree, int]:
        """The tree in which the state after the step stands, by this side's run, and where."""
        checkpoint, following = reached(self._position.checkpoint), reached(self._position.step) + 1
        begins, ends = self._position.terms.interval(checkpoint)
        if following == ends:
            return merkle.tree_of(Kind.RUN, self._execution.checkpoints()), checkpoint
        return merkle.tree_of(Kind.INTERVAL, self._execution.between(checkpoint)), following - begins - 1


def _operand(operand: Operand, elements: int, step: int) -> tuple[Any, ...]:
    leaves = [(leaf.raw, list(leaf.path)) for leaf in operand.leaves]
    whole, offset = elements, 0
    if operand.slices:
        whole, offset = operand.slices * elements, step % operand.slices * elements
    return operand.root or _NO_HASH, whole, offset, leaves


_CALLS: dict[type[Any], tuple[str, Callable[[_Encoder, Any], tuple[Any, ...]]]] = {
    ShowNodes: ("show_nodes", _Encoder.show_nodes),
    ShowLeaf: ("show_leaf", _Encoder.show_leaf),
    ShowTotals: ("show_totals", _Encoder.show_totals),
    ShowAccumulators: ("show_accumulators", _Encoder.show_accumulators),
    PickNode: ("pick_node", _Encoder.pick_node),
    PickOperation: ("pick_operation", _Encoder.pick_operation),
    PickElement: ("pick_element", _Encoder.pick_element),
    PickSegment: ("pick_segment", _Encoder.pick_segment),
    PickBlock: ("pick_block", _Encoder.pick_block),
    JudgeJoin: ("judge_join", _Encoder.judge_join),
    JudgeElement: ("judge_element", _Encoder.judge_element),
    JudgeRun: ("judge_run", _Encoder.judge_run),
    JudgeState: ("judge_state", _Encoder.judge_state),
}
