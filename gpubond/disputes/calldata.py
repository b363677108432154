# SPDX-License-Identifier: Apache-2.0
"""A move as a call of DisputeGame.vy: the name of its function, and the arguments in their order.

All follows from the position that the move answers. Paths to what was picked are of nodes that were shown before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from eth_abi.abi import encode

from gpubond.chain.game_words import NONE
from gpubond.disputes.moves import (
    AnswerNodes,
    JudgeElement,
    JudgeJoin,
    JudgeRun,
    JudgeState,
    Move,
    Operand,
    PickCheckpoint,
    PickElement,
    PickLeaf,
    PickNode,
    PickOperation,
    PickSegment,
    PickState,
    PickStep,
    Shown,
    ShowNodes,
    ShowValues,
)
from gpubond.disputes.position import Elements, Nodes, OneTensor, Position, Reduction, known_in, reached
from gpubond.disputes.reductions import runs_in
from gpubond.disputes.structs import Registered, joined, values
from gpubond.exact import commitments, merkle
from gpubond.exact.merkle import LEAF_ELEMENTS, Kind, Opening
from gpubond.exact.program import parse_state_record
from gpubond.exact.refusal import Refused

_ZERO = bytes(32)
# As the structs stand in IDisputeGame.vyi, which are handed over encoded.
EVIDENCE = "(bytes,bytes32,bytes32[],(bytes32,uint256,uint256,bytes32[])[],bytes[])"
NEXT = "(bytes,bytes32[],bytes32,bytes32[],bytes32,bytes32[],bytes32,bytes32[])"
Arguments = tuple[Any, ...]


class Call(NamedTuple):
    """A call of the contract."""

    function: str
    arguments: Arguments


def call(game: Registered, position: Position, move: Move) -> Call:
    """The call that makes a move in a position. Raises Refused for a move that has no place there."""
    function, arguments = _CALLS[type(move)]
    return Call(function, (game.game, game.place(position), *arguments(game, position, move)))


def _show_nodes(game: Registered, position: Position, move: ShowNodes) -> Arguments:
    doubt = position.doubt
    if not isinstance(doubt, Nodes):
        raise Refused("move", position.level.value, "there are no nodes to show")
    if doubt.at_root:
        return (game.way(position),), (), joined(move.nodes)
    return (), position.seen[-1].path(doubt.index), joined(move.nodes)


def _show_values(_: Registered, __: Position, move: ShowValues) -> Arguments:
    return (values(move.values),)


def _pick_node(_: Registered, position: Position, move: PickNode) -> Arguments:
    return (_index(position, move.index),)


def _pick_checkpoint(game: Registered, position: Position, move: PickCheckpoint) -> Arguments:
    theirs = _shown_there(position, move.checkpoint)
    return game.way(position), *theirs, move.leaf, _known(move.path), joined(move.nodes)


def _pick_step(game: Registered, position: Position, move: PickStep) -> Arguments:
    index = NONE if move.state is None else _index(position, move.state)
    return game.way(position), index, joined(move.nodes)


def _pick_operation(game: Registered, position: Position, move: PickOperation) -> Arguments:
    return (
        *_settled(game, position),
        *_shown_there(position, move.op),
        move.record,
        _known(move.path),
        joined(move.nodes),
    )


def _pick_state(game: Registered, position: Position, move: PickState) -> Arguments:
    path = _path_of_state(position) if position.terms.statement.state_count > 1 else ()
    return game.way(position), path, joined(move.nodes)


def _answer_nodes(_: Registered, position: Position, move: AnswerNodes) -> Arguments:
    return *_shown_there(position, move.index), _known(move.path), joined(move.nodes)


def _pick_leaf(_: Registered, position: Position, move: PickLeaf) -> Arguments:
    return *_shown_there(position, move.index), move.raw


def _pick_element(_: Registered, position: Position, move: PickElement) -> Arguments:
    doubt = position.doubt
    if not isinstance(doubt, Elements):
        raise Refused("move", position.level.value, "no leaf is in doubt")
    return doubt.theirs, move.raw, move.element - doubt.index * LEAF_ELEMENTS, values(move.values)


def _pick_segment(_: Registered, position: Position, move: PickSegment) -> Arguments:
    return values(_reduction(position).values), move.segment


def _judge_element(game: Registered, position: Position, move: JudgeElement) -> Arguments:
    return *_settled(game, position), b"", 0, _evidence(position, move.shown)


def _judge_run(game: Registered, position: Position, move: JudgeRun) -> Arguments:
    shown = values(_reduction(position).values)
    return *_settled(game, position), shown, move.run, _evidence(position, move.shown)


def _judge_join(game: Registered, position: Position, move: JudgeJoin) -> Arguments:
    doubt = _reduction(position)
    # Totals come behind the accumulators of all blocks.
    index = runs_in(position, doubt) + move.block - doubt.first
    return *_settled(game, position), values(doubt.values), index, b""


def _judge_state(game: Registered, position: Position, move: JudgeState) -> Arguments:
    said = position.terms.statement
    number = parse_state_record(move.record).next
    state = _ZERO
    if number < said.state_count:
        state = _root(Kind.STATE, said.state_count, number, move.commitment, move.path)
    # Of the next state only hashes are known.
    if isinstance(position.doubt, OneTensor):
        index, claimed, claimed_path = move.tensor, reached(position.following).hash, _path_of_state(position)
    else:
        index, claimed, claimed_path = _shown_there(position, move.tensor)
    following = (
        move.record,
        move.record_path,
        claimed,
        claimed_path,
        move.commitment,
        move.path,
        state,
        move.state_path,
    )
    return *_settled(game, position), b"", index, encode([NEXT], [following])


_CALLS: dict[type[Any], tuple[str, Callable[[Registered, Position, Any], Arguments]]] = {
    ShowNodes: ("show_nodes", _show_nodes),
    ShowValues: ("show_values", _show_values),
    PickNode: ("pick_node", _pick_node),
    PickCheckpoint: ("pick_checkpoint", _pick_checkpoint),
    PickStep: ("pick_step", _pick_step),
    PickOperation: ("pick_operation", _pick_operation),
    PickState: ("pick_state", _pick_state),
    AnswerNodes: ("answer_nodes", _answer_nodes),
    PickLeaf: ("pick_leaf", _pick_leaf),
    PickElement: ("pick_element", _pick_element),
    PickSegment: ("pick_segment", _pick_segment),
    JudgeElement: ("judge", _judge_element),
    JudgeJoin: ("judge", _judge_join),
    JudgeRun: ("judge", _judge_run),
    JudgeState: ("judge", _judge_state),
}


def _settled(game: Registered, position: Position) -> Arguments:
    """Way and origin."""
    return game.way(position), game.origin


def _index(position: Position, place: int) -> int:
    """Of a node, by its number from the left, among those that were shown last."""
    return place - position.seen[-1].first


def _shown_there(position: Position, place: int) -> tuple[int, bytes, tuple[bytes, ...]]:
    """A node that was shown last, by its number from the left: its index, itself, and its path."""
    last, index = position.seen[-1], _index(position, place)
    if not 0 <= index < len(last.nodes):
        raise Refused("move", place, "no node was shown there")
    return index, last.nodes[index], last.path(place)


def _known(path: tuple[bytes, ...] | None) -> tuple[bytes, ...]:
    """A path of a player's move; events carry none, so that one read from them cannot be made again."""
    if path is None:
        raise Refused("move.path", None, "is not known")
    return path


def _reduction(position: Position) -> Reduction:
    if not isinstance(position.doubt, Reduction):
        raise Refused("move", position.level.value, "no reduction is in doubt")
    return position.doubt


def _path_of_state(position: Position) -> tuple[bytes, ...]:
    """Of the next state in the tree of the interval, all of which was shown on the way down; none if it ends that."""
    following = reached(position.following)
    if following.kind is Kind.RUN:
        return ()
    begins, ends = position.terms.interval(reached(position.checkpoint))
    index = reached(position.step) - begins
    known = known_in(position.seen, Kind.INTERVAL)
    beside = ((height, index >> height ^ 1) for height in range(merkle.depth(ends - begins - 1)))
    return tuple(known.get(at, merkle.zero(Kind.INTERVAL, at[0])) for at in beside)


def _evidence(position: Position, shown: Shown) -> bytes:
    """The struct `Evidence`, encoded."""
    said = position.terms.statement
    operation = reached(position.operation)
    state = _ZERO
    inputs = zip(operation.inputs, operation.input_shapes, shown.operands, strict=True)
    for number, shape, operand in inputs:
        if operand.leaves and number < said.state_count:
            commitment = commitments.tensor_of_root(shape, operand.root)
            state = _root(Kind.STATE, said.state_count, number, commitment, operand.path)
    sources = [_source(operand) for operand in shown.operands]
    leaves = [leaf.raw + b"".join(leaf.path) for operand in reversed(shown.operands) for leaf in operand.leaves]
    return encode([EVIDENCE], [(position.record, state, shown.state_path, sources, leaves)])


def _source(operand: Operand) -> Arguments:
    """The struct `Source`."""
    if not operand.leaves:
        return _ZERO, 0, 0, ()
    return operand.root, operand.slices, len(operand.leaves), operand.path


def _root(kind: Kind, count: int, index: int, leaf: bytes, path: tuple[bytes, ...]) -> bytes:
    return Opening(kind, count, index, merkle.hash_leaf(kind, leaf), path).root()
