# SPDX-License-Identifier: Apache-2.0
"""Moves as calls of `DisputeGame`: with the position that they answer, and the paths that the contract asks for."""

from __future__ import annotations

from typing import Any

from gpubond.chain.contracts import Call
from gpubond.chain.game_words import NONE
from gpubond.chain.games import DisputeGame
from gpubond.disputes import levels
from gpubond.disputes.asserter import reached
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
from gpubond.disputes.position import Binding, Block, Elements, Nodes, Totals
from gpubond.exact import merkle, shapes
from gpubond.exact.commitments import tensor_of_root
from gpubond.exact.merkle import LEAF_ELEMENTS, Kind, Opening
from gpubond.exact.program import parse_record

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
    return _Encoder(contract, game_id, game, execution).call(move)


class _Encoder:
    def __init__(self, contract: DisputeGame, game_id: bytes, game: Followed, execution: Execution) -> None:
        self._contract = contract
        self._id = game_id
        self._game = game
        self._execution = execution
        self._stored = game.stored.as_tuple()
        self._way = game.way.as_tuple()
        self._origin = game.origin.as_tuple()

    def call(self, move: Move) -> Call:
        name, words, args = self._plain(move)
        return self._contract.move(name, words, self._id, self._stored, *args)

    def _plain(self, move: Move) -> tuple[str, str, tuple[Any, ...]]:
        doubt, level = self._game.position.doubt, self._game.position.level.value
        args: tuple[Any, ...]
        match move:
            case ShowNodes():
                assert isinstance(doubt, Nodes)  # noqa: S101 - by the rules
                return "show_nodes", f"show nodes of level {level}", self._show_nodes(doubt, move)
            case ShowLeaf():
                return "show_leaf", "show 64 elements of an output", self._show_leaf(move)
            case ShowTotals():
                return "show_totals", "show totals of a sum", (values_bytes((*move.sums, *move.totals)),)
            case ShowAccumulators():
                return "show_accumulators", "show accumulators of a block", (values_bytes(move.accumulators),)
            case PickNode():
                return "pick_node", f"pick a node of level {level}", (self._index(doubt, move.index),)
            case PickOperation():
                return "pick_operation", f"pick operation {move.op}", self._pick_operation(doubt, move)
            case PickElement():
                index = move.element % LEAF_ELEMENTS
                return "pick_element", f"pick element {move.element}", (self._game.raw, index)
            case PickSegment():
                return "pick_segment", f"pick segment {move.segment}", (self._game.raw, move.segment)
            case PickBlock():
                return "pick_block", f"pick block {move.block}", (self._game.raw, self._block(doubt, move.block))
            case JudgeJoin():
                args = (self._way, self._origin, self._game.raw, self._block(doubt, move.block))
                return "judge_join", f"have the join after block {move.block} judged", args
            case JudgeElement():
                index = move.element % LEAF_ELEMENTS
                args = (self._way, self._origin, self._game.raw, index, self._evidence(move.shown))
                return "judge_element", f"have element {move.element} judged", args
            case JudgeRun():
                shown = self._game.raw if isinstance(doubt, Block) and doubt.accumulators else b""
                args = (self._way, self._origin, shown, move.run, self._evidence(move.shown))
                return "judge_run", f"have run {move.run} of a block judged", args
            case JudgeState():
                assert isinstance(doubt, Binding)  # noqa: S101 - by the rules
                args = (self._way, self._origin, *self._next_state(doubt, move))
                return "judge_state", f"have state tensor {doubt.tensor} judged", args

    # The asserter's.

    def _show_nodes(self, doubt: Nodes, move: ShowNodes) -> tuple[Any, ...]:
        below = levels.levels_below(doubt.height)
        low = doubt.height - below
        held = min(1 << below, ((doubt.count - 1) >> low) + 1 - (doubt.index << below))
        first = doubt.at_root and doubt.level is not Level.RUN
        way = [self._way] if first else []
        return way, list(self._way_up(doubt)), list(move.nodes[:held])

    def _way_up(self, doubt: Nodes) -> tuple[bytes, ...]:
        """From what was picked up to the node that the contract knows."""
        if not doubt.at_root:
            return self._shown_path(doubt.index)
        if doubt.level is Level.STATE:
            return self._following_path()
        if doubt.level is Level.OUTPUT:
            return self._shown_path(reached(self._game.position.op))
        return ()

    def _shown_path(self, index: int) -> tuple[bytes, ...]:
        """From a node among those shown last, by its number from the left, up to the node above them."""
        nodes = self._game.nodes
        return () if nodes is None else nodes.path(index - nodes.first)

    def _following_path(self) -> tuple[bytes, ...]:
        """From the state after the step to the root of tree 5 or 6."""
        position = self._game.position
        checkpoint, following = reached(position.checkpoint), reached(position.step) + 1
        begins, ends = position.terms.interval(checkpoint)
        if following == ends:
            return merkle.tree_of(Kind.RUN, self._execution.checkpoints()).path(checkpoint)
        return merkle.tree_of(Kind.INTERVAL, self._execution.between(checkpoint)).path(following - begins - 1)

    def _show_leaf(self, move: ShowLeaf) -> tuple[Any, ...]:
        doubt = self._game.position.doubt
        assert isinstance(doubt, Elements)  # noqa: S101 - by the rules
        if doubt.node is None:
            return [self._way], list(self._shown_path(reached(self._game.position.op))), move.raw
        return [], list(self._shown_path(doubt.index)), move.raw

    # The challenger's.

    def _index(self, doubt: object, index: int | None) -> int:
        if index is None:
            return NONE
        assert isinstance(doubt, Nodes)  # noqa: S101 - by the rules
        return index - (doubt.index << levels.levels_below(doubt.height))

    def _block(self, doubt: object, block: int) -> int:
        assert isinstance(doubt, Totals)  # noqa: S101 - by the rules
        return block - doubt.first

    def _pick_operation(self, doubt: object, move: PickOperation) -> tuple[Any, ...]:
        output, path = _NO_HASH, tuple[bytes, ...]()
        if shapes.count(parse_record(move.record, "record").shape) == 0:
            output = self._execution.outputs(reached(self._game.position.step))[move.op]
            path = self._shown_path(move.op)
        return (
            *(self._way, self._origin, self._index(doubt, move.op), move.record, list(move.path)),
            *(output, list(path)),
        )

    def _evidence(self, shown: Shown) -> tuple[Any, ...]:
        position = self._game.position
        operation = position.operation
        assert operation is not None  # noqa: S101 - beyond STEP
        state = _NO_HASH
        for number, shape, operand in zip(operation.inputs, operation.input_shapes, shown.operands, strict=True):
            if operand.leaves and number < position.terms.statement.state_count:
                state = _state_root(position.terms.statement.state_count, number, shape, operand)
        sources = [_source(operand) for operand in shown.operands]
        return (position.record, state, list(shown.state_path), sources)

    def _next_state(self, doubt: Binding, move: JudgeState) -> tuple[Any, ...]:
        raise NotImplementedError


def _source(operand: Operand) -> tuple[Any, ...]:
    leaves = [(leaf.raw, list(leaf.path)) for leaf in operand.leaves]
    return (operand.root or _NO_HASH, operand.slices, list(operand.path), leaves)


def _state_root(count: int, number: int, shape: tuple[int, ...], operand: Operand) -> bytes:
    leaf = merkle.hash_leaf(Kind.STATE, tensor_of_root(shape, operand.root))
    return Opening(Kind.STATE, count, number, leaf, operand.path).root()
