# SPDX-License-Identifier: Apache-2.0
"""A move as a call of DisputeGame.vy: the name of its function, and the arguments in their order.

All follows from the position that the move answers. Paths to what was picked are of nodes that were shown before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from eth_abi.abi import encode

from gpubond.chain.game_words import NONE
from gpubond.disputes.evaluation import is_data
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
from gpubond.disputes.position import Block, Elements, Nodes, Place, Position, Totals, known_in, reached
from gpubond.disputes.structs import Registered, values
from gpubond.exact import commitments, merkle, shapes
from gpubond.exact.merkle import LEAF_ELEMENTS, Kind, Opening
from gpubond.exact.program import parse_record, parse_state_record
from gpubond.exact.refusal import Refused
from gpubond.exact.shapes import Shape

_ZERO = bytes(32)
# As the structs stand in IDisputeGame.vyi, which are handed over encoded.
EVIDENCE = "(bytes,bytes32,bytes32[],(uint256,bytes32[])[],(bytes32,uint256,uint256,(bytes,bytes32[])[])[])"
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
    if not doubt.at_root:
        return (), position.seen[-1].path(doubt.index), move.nodes
    if doubt.level is Level.RUN:
        return (), (), move.nodes
    way = (game.way(position),)
    if doubt.level is Level.STATE:
        return way, _path_of_state(position), move.nodes
    if doubt.level is Level.OUTPUT:
        return way, position.seen[-1].path(reached(position.op)), move.nodes
    return way, (), move.nodes


def _show_leaf(game: Registered, position: Position, move: ShowLeaf) -> Arguments:
    doubt = position.doubt
    if not isinstance(doubt, Elements):
        raise Refused("move", position.level.value, "there is no leaf to show")
    if doubt.node is None:
        return (game.way(position),), position.seen[-1].path(reached(position.op)), move.raw
    return (), position.seen[-1].path(doubt.index), move.raw


def _pick_node(game: Registered, position: Position, move: PickNode) -> Arguments:
    return (NONE if move.index is None else move.index - position.seen[-1].first,)


def _pick_operation(game: Registered, position: Position, move: PickOperation) -> Arguments:
    last = position.seen[-1]
    output: Arguments = (_ZERO, ())
    if shapes.count(parse_record(move.record).shape) == 0:
        # Its hash is all that is known of it.
        output = (last.nodes[move.op - last.first], last.path(move.op))
    return *_settled(game, position), move.op - last.first, move.record, move.path, *output


def _pick_element(game: Registered, position: Position, move: PickElement) -> Arguments:
    return _leaf(position, move.element)


def _pick_segment(game: Registered, position: Position, move: PickSegment) -> Arguments:
    return _totals(position), move.segment


def _pick_block(game: Registered, position: Position, move: PickBlock) -> Arguments:
    return _totals(position), move.block - _first_block(position)


def _judge_join(game: Registered, position: Position, move: JudgeJoin) -> Arguments:
    return *_settled(game, position), _totals(position), move.block - _first_block(position)


def _judge_element(game: Registered, position: Position, move: JudgeElement) -> Arguments:
    evidence = _evidence(position, move.shown)
    return *_settled(game, position), *_leaf(position, move.element), evidence


def _judge_run(game: Registered, position: Position, move: JudgeRun) -> Arguments:
    doubt = position.doubt
    if not isinstance(doubt, Block):
        raise Refused("move", position.level.value, "there is no run to judge")
    return *_settled(game, position), values(doubt.accumulators), move.run, _evidence(position, move.shown)


def _judge_state(game: Registered, position: Position, move: JudgeState) -> Arguments:
    said = position.terms.statement
    last = position.seen[-1]
    number = parse_state_record(move.record).next
    state = _ZERO
    if number < said.state_count:
        state = _root(Kind.STATE, said.state_count, number, move.commitment, move.path)
    # Of the next state only hashes are known.
    index, claimed, claimed_path = 0, reached(position.following).hash, _path_of_state(position)
    if said.state_count > 1:
        index = move.tensor - last.first
        claimed, claimed_path = last.nodes[index], last.path(move.tensor)
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
    return *_settled(game, position), index, encode([NEXT], [following])


_CALLS: dict[type[Any], tuple[str, Callable[[Registered, Position, Any], Arguments]]] = {
    ShowNodes: ("show_nodes", _show_nodes),
    ShowLeaf: ("show_leaf", _show_leaf),
    ShowTotals: ("show_totals", lambda game, position, move: (values(move.sums + move.totals),)),
    ShowAccumulators: ("show_accumulators", lambda game, position, move: (values(move.accumulators),)),
    PickNode: ("pick_node", _pick_node),
    PickOperation: ("pick_operation", _pick_operation),
    PickElement: ("pick_element", _pick_element),
    PickSegment: ("pick_segment", _pick_segment),
    PickBlock: ("pick_block", _pick_block),
    JudgeElement: ("judge_element", _judge_element),
    JudgeJoin: ("judge_join", _judge_join),
    JudgeRun: ("judge_run", _judge_run),
    JudgeState: ("judge_state", _judge_state),
}


def _settled(game: Registered, position: Position) -> Arguments:
    """Way and origin."""
    return game.way(position), game.origin


def _leaf(position: Position, element: int) -> Arguments:
    """The leaf that was shown, and an element's place in it."""
    doubt = position.doubt
    if not isinstance(doubt, Elements):
        raise Refused("move", position.level.value, "no leaf was shown")
    return doubt.raw, element - doubt.index * LEAF_ELEMENTS


def _totals(position: Position) -> bytes:
    if not isinstance(position.doubt, Totals):
        raise Refused("move", position.level.value, "no totals were shown")
    return values(position.doubt.sums + position.doubt.totals)


def _first_block(position: Position) -> int:
    if not isinstance(position.doubt, Totals):
        raise Refused("move", position.level.value, "no block is in doubt")
    return position.doubt.first


def _path_of_state(position: Position) -> tuple[bytes, ...]:
    """Of the next state in the tree of the run or the interval: all of it was shown on the way down."""
    place: Place = reached(position.following)
    checkpoint = reached(position.checkpoint)
    begins, ends = position.terms.interval(checkpoint)
    if place.kind is Kind.RUN:
        index, count = checkpoint, position.terms.checkpoints
    else:
        index, count = reached(position.step) - begins, ends - begins - 1
    known = known_in(position.seen, place.kind)
    beside = ((height, index >> height ^ 1) for height in range(merkle.depth(count)))
    return tuple(known.get(at, merkle.zero(place.kind, at[0])) for at in beside)


def _evidence(position: Position, shown: Shown) -> bytes:
    """The struct `Evidence`, encoded."""
    terms = position.terms
    said = terms.statement
    operation = reached(position.operation)
    step = reached(position.step)
    state = _ZERO
    operands, sources = [], []
    inputs = zip(operation.inputs, operation.input_shapes, shown.operands, strict=True)
    for number, shape, operand in inputs:
        if operand.leaves and number < said.state_count:
            commitment = commitments.tensor_of_root(shape, operand.root)
            state = _root(Kind.STATE, said.state_count, number, commitment, operand.path)
        slices = operand.slices if is_data(terms, number) else 0
        operands.append(_operand(shape, operand, slices, step))
        sources.append((operand.slices, operand.path))
    return encode([EVIDENCE], [(position.record, state, shown.state_path, sources, operands)])


def _operand(shape: Shape, operand: Operand, slices: int, step: int) -> Arguments:
    """The struct `Operand` of the judge."""
    if not operand.leaves:
        return _ZERO, 0, 0, ()
    elements = shapes.count(shape)
    offset = step % slices * elements if slices else 0
    leaves = tuple((leaf.raw, leaf.path) for leaf in operand.leaves)
    return operand.root, elements * max(slices, 1), offset, leaves


def _root(kind: Kind, count: int, index: int, leaf: bytes, path: tuple[bytes, ...]) -> bytes:
    return Opening(kind, count, index, merkle.hash_leaf(kind, leaf), path).root()
