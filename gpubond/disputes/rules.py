# SPDX-License-Identifier: Apache-2.0
"""The rules of the game (docs/disputes.md, section 2): what a move makes of a position, and which moves are refused.

Pure. What DisputeGame.vy does beyond this, bonds and clocks, is not here. A move that is refused leaves the position as
it was, and the clock of who should move runs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from gpubond.disputes import evaluation, levels
from gpubond.disputes.levels import FREE, KINDS, Level
from gpubond.disputes.moves import (
    JudgeElement,
    JudgeJoin,
    JudgeRun,
    JudgeState,
    Move,
    PickBlock,
    PickElement,
    PickNode,
    PickOperation,
    PickSegment,
    ShowAccumulators,
    ShowLeaf,
    ShowNodes,
    ShowTotals,
)
from gpubond.disputes.position import Block, Elements, Nodes, Place, Position, Seen, Side, Totals, Verdict, reached
from gpubond.disputes.terms import Terms
from gpubond.exact import commitments, merkle, reference, shapes
from gpubond.exact.merkle import HASH_BYTES, LEAF_BYTES, LEAF_ELEMENTS, Kind
from gpubond.exact.program import Op, parse_record
from gpubond.exact.refusal import Refused

D = TypeVar("D", Nodes, Elements, Totals, Block)
_WORD = 1 << 32


def begin(terms: Terms, run_root: bytes) -> Position:
    """The position of a game that was just opened. Raises Refused for a root that is no 32 bytes."""
    if len(run_root) != HASH_BYTES:
        raise Refused("run_root", run_root.hex(), f"must be {HASH_BYTES} bytes")
    count = terms.checkpoints
    start = Position(terms, run_root, Nodes.of(Level.RUN, Kind.RUN, count, run_root))
    return start if count > 1 else _in_interval(start, 0, run_root)


def apply(position: Position, move: Move) -> Position | Verdict:
    """What a move leads to. Raises Refused, naming the field, for one that the contract refuses."""
    turn = Side.ASSERTER if isinstance(move, (ShowNodes, ShowLeaf, ShowTotals, ShowAccumulators)) else Side.CHALLENGER
    if position.turn is not turn:
        raise Refused("move", type(move).__name__, f"it is the {position.turn.value}'s turn")
    return _MOVES[type(move)](position, move)


def _doubt(position: Position, wanted: type[D]) -> D:
    if not isinstance(position.doubt, wanted):
        raise Refused("move", position.level.value, "another move is due at this level")
    return position.doubt


def _operation(position: Position) -> Op:
    return reached(position.operation)


def _in_interval(position: Position, checkpoint: int, end: bytes) -> Position:
    begins, ends = position.terms.interval(checkpoint)
    place = Place(Kind.RUN, end)
    between = ends - begins - 1
    reached = replace(position, checkpoint=checkpoint, end=place)
    if between == 0:
        return _in_step(reached, begins, place)
    return replace(reached, doubt=Nodes.of(Level.INTERVAL, Kind.INTERVAL, between))


def _in_step(position: Position, step: int, following: Place) -> Position:
    count = position.terms.statement.op_count
    return replace(position, step=step, following=following, doubt=Nodes.of(Level.STEP, Kind.STEP, count))


def _show_nodes(position: Position, move: ShowNodes) -> Position:
    doubt = _doubt(position, Nodes)
    found = levels.check_nodes(doubt.kind, doubt.count, doubt.height, doubt.index, move.nodes)
    if doubt.node is not None:
        if found != doubt.node:
            raise Refused("show.nodes", found.hex(), f"must hash up to {doubt.node.hex()}")
    elif doubt.level is Level.INTERVAL:
        position = replace(position, interval_root=found)
    elif doubt.level is Level.STEP:
        position = replace(position, step_root=found)
    elif doubt.level is Level.STATE:
        _check_held(reached(position.following), found)
    else:
        _check_held(reached(position.output), commitments.tensor_of_root(_operation(position).shape, found))
    below = levels.below(doubt.count, doubt.height, doubt.index)
    seen = Seen(doubt.kind, doubt.height, below.height, below.first, move.nodes)
    return replace(position, seen=(*position.seen, seen), doubt=replace(doubt, node=found, shown=move.nodes))


def _check_held(place: Place, leaf: bytes) -> None:
    if not place.holds(leaf):
        raise Refused("show", leaf.hex(), "is not what was committed to")


def _show_leaf(position: Position, move: ShowLeaf) -> Position:
    doubt = _doubt(position, Elements)
    shape = _operation(position).shape
    if len(move.raw) != LEAF_BYTES:
        raise Refused("show.raw", len(move.raw), f"must be {LEAF_BYTES} bytes")
    held = 4 * (shapes.count(shape) - doubt.index * LEAF_ELEMENTS)
    if any(move.raw[held:]):
        raise Refused("show.raw", move.raw[held:].hex(), "bytes beyond the elements must be zero")
    found = merkle.hash_leaf(Kind.ELEMENTS, move.raw)
    if doubt.node is None:
        _check_held(reached(position.output), commitments.tensor_of_root(shape, found))
    elif found != doubt.node:
        raise Refused("show.raw", found.hex(), f"its hash must be {doubt.node.hex()}")
    return replace(position, doubt=replace(doubt, raw=move.raw))


def _show_totals(position: Position, move: ShowTotals) -> Position:
    doubt = _doubt(position, Totals)
    first, last = doubt.first, doubt.last
    sums = last - first + 1 if levels.segment_blocks(first, last) == 1 else 0
    _check_bits("show.sums", move.sums, sums)
    _check_bits("show.totals", move.totals, len(levels.totals_shown(first, last)))
    return replace(position, doubt=replace(doubt, sums=move.sums, totals=move.totals, shown=True))


def _show_accumulators(position: Position, move: ShowAccumulators) -> Position:
    doubt = _doubt(position, Block)
    terms = levels.block_terms(reference.terms(_operation(position)), doubt.block)
    _check_bits("show.accumulators", move.accumulators, levels.runs(terms) - 1)
    return replace(position, doubt=replace(doubt, accumulators=move.accumulators, shown=True))


def _check_bits(field: str, values: tuple[int, ...], count: int) -> None:
    if len(values) != count:
        raise Refused(field, len(values), f"must be {count}")
    for at, value in enumerate(values):
        if not 0 <= value < _WORD:
            raise Refused(f"{field}[{at}]", value, "does not fit in 32 bits")


def _picked(doubt: Nodes, index: int) -> tuple[int, bytes]:
    """The height of the nodes that are shown, and the one that is picked."""
    below = levels.below(doubt.count, doubt.height, doubt.index)
    if not 0 <= index - below.first < len(doubt.shown):
        raise Refused("pick.index", index, "no node was shown there")
    return below.height, doubt.shown[index - below.first]


def _pick_node(position: Position, move: PickNode) -> Position:
    doubt = _doubt(position, Nodes)
    if move.index is None:
        if doubt.level not in FREE or not doubt.at_root:
            raise Refused("pick.index", None, "one of the nodes must be picked here")
        return _none_wrong(position, doubt)
    low, node = _picked(doubt, move.index)
    if low:
        return replace(position, doubt=replace(doubt, height=low, index=move.index, node=node, shown=()))
    match doubt.level:
        case Level.RUN:
            return _in_interval(position, move.index, node)
        case Level.INTERVAL:
            begins, _ = position.terms.interval(reached(position.checkpoint))
            return _in_step(position, begins + move.index, Place(Kind.INTERVAL, node))
        case Level.OUTPUT:
            return replace(position, doubt=Elements(move.index, node))
        case _:
            raise Refused("move", "pick_node", "an operation is picked with its record, a state's tensor is judged")


def _none_wrong(position: Position, doubt: Nodes) -> Position:
    """Nothing between two ends is wrong: then it is the last one."""
    if doubt.level is Level.STEP:
        count = position.terms.statement.state_count
        if count == 1:
            raise Refused("pick.index", None, "the only tensor of the state is judged")
        return replace(position, doubt=Nodes.of(Level.STATE, Kind.STATE, count))
    _, ends = position.terms.interval(reached(position.checkpoint))
    return _in_step(position, ends - 1, reached(position.end))


def _pick_operation(position: Position, move: PickOperation) -> Position | Verdict:
    doubt = _doubt(position, Nodes)
    if doubt.level is not Level.STEP:
        raise Refused("move", doubt.level.value, "operations are picked at level step")
    low, node = _picked(doubt, move.op)
    if low:
        raise Refused("pick.op", move.op, "the nodes that were shown are not yet leaves")
    terms = position.terms
    evaluation.check_record(terms, 1 + terms.first_output + move.op, move.record, move.path)
    operation = parse_record(move.record, "pick.record")
    output = Place(Kind.STEP, node)
    elements = shapes.count(operation.shape)
    if elements == 0:
        right = commitments.tensor_of_root(operation.shape, merkle.zero(Kind.ELEMENTS, 0))
        return Verdict(convicted=not output.holds(right))
    leaves = -(-elements // LEAF_ELEMENTS)
    below = Elements(0) if leaves == 1 else Nodes.of(Level.OUTPUT, KINDS[Level.OUTPUT], leaves)
    return replace(position, op=move.op, record=move.record, operation=operation, output=output, doubt=below)


def _leaf_bits(doubt: Elements, operation: Op, element: int) -> int:
    """What was shown of an element."""
    index, at = divmod(element, LEAF_ELEMENTS)
    if index != doubt.index or not 0 <= element < shapes.count(operation.shape):
        raise Refused("pick.element", element, f"is not in leaf {doubt.index}")
    return int.from_bytes(doubt.raw[4 * at : 4 * at + 4], "little")


def _pick_element(position: Position, move: PickElement) -> Position:
    doubt = _doubt(position, Elements)
    operation = _operation(position)
    bits = _leaf_bits(doubt, operation, move.element)
    terms = reference.terms(operation)
    if terms <= levels.RUN_TERMS:
        raise Refused("pick.element", move.element, "is evaluated at once")
    reached = replace(position, element=move.element)
    last = levels.blocks(terms) - 1
    return replace(reached, doubt=Totals(0, last, None, bits)) if last else _in_block(reached, 0, bits)


def _in_block(position: Position, block: int, total: int) -> Position:
    terms = levels.block_terms(reference.terms(_operation(position)), block)
    # With one run there is nothing to show.
    return replace(position, doubt=Block(block, total, shown=levels.runs(terms) == 1))


def _pick_segment(position: Position, move: PickSegment) -> Position:
    doubt = _doubt(position, Totals)
    parts = levels.segments(doubt.first, doubt.last)
    if doubt.sums:
        raise Refused("move", "pick_segment", "a block is picked here")
    if not 0 <= move.segment < len(parts):
        raise Refused("pick.segment", move.segment, f"there are {len(parts)}")
    first, last = parts[move.segment]
    before = doubt.totals[move.segment - 1] if move.segment else doubt.before
    after = (*doubt.totals, doubt.after)[move.segment]
    return replace(position, doubt=Totals(first, last, before, after))


def _block_place(doubt: Totals, block: int) -> int:
    if not doubt.sums:
        raise Refused("move", "block", "a segment is picked here")
    if not doubt.first <= block <= doubt.last:
        raise Refused("pick.block", block, f"must be from {doubt.first} to {doubt.last}")
    return block - doubt.first


def _pick_block(position: Position, move: PickBlock) -> Position:
    doubt = _doubt(position, Totals)
    return _in_block(position, move.block, doubt.sums[_block_place(doubt, move.block)])


def _judge_join(position: Position, move: JudgeJoin) -> Verdict:
    doubt = _doubt(position, Totals)
    at = _block_place(doubt, move.block)
    before = doubt.totals[at - 1] if at else doubt.before
    after = (*doubt.totals, doubt.after)[at]
    right = doubt.sums[at] if before is None else reference.join(_operation(position), before, doubt.sums[at])
    return Verdict(convicted=right != after)


def _judge_element(position: Position, move: JudgeElement) -> Verdict:
    doubt = _doubt(position, Elements)
    operation = _operation(position)
    claimed = _leaf_bits(doubt, operation, move.element)
    if reference.terms(operation) > levels.RUN_TERMS:
        raise Refused("judge.element", move.element, "has too many terms to be evaluated at once")
    return Verdict(convicted=evaluation.element(position, operation, move.element, move.shown) != claimed)


def _judge_run(position: Position, move: JudgeRun) -> Verdict:
    doubt = _doubt(position, Block)
    operation = _operation(position)
    terms = levels.block_terms(reference.terms(operation), doubt.block)
    if not 0 <= move.run < levels.runs(terms):
        raise Refused("judge.run", move.run, f"there are {levels.runs(terms)}")
    before = doubt.accumulators[move.run - 1] if move.run else reference.identity(operation)
    after = (*doubt.accumulators, doubt.total)[move.run]
    first, last = levels.run_terms(reference.terms(operation), doubt.block, move.run)
    found = evaluation.run(position, operation, first, last, before, move.shown)
    return Verdict(convicted=found != after)


def _judge_state(position: Position, move: JudgeState) -> Verdict:
    doubt = _doubt(position, Nodes)
    only = position.terms.statement.state_count == 1
    # With one tensor that is what *none* would lead to.
    if doubt.level is not (Level.STEP if only else Level.STATE) or (only and not doubt.at_root):
        raise Refused("move", doubt.level.value, "no tensor of the state is in doubt")
    right = merkle.hash_leaf(Kind.STATE, evaluation.next_tensor(position, move))
    if only:
        if move.tensor != 0:
            raise Refused("judge.tensor", move.tensor, "there is one")
        return Verdict(convicted=not reached(position.following).holds(right))
    low, leaf = _picked(doubt, move.tensor)
    if low:
        raise Refused("judge.tensor", move.tensor, "the nodes that were shown are not yet leaves")
    return Verdict(convicted=right != leaf)


_MOVES: dict[type[Any], Callable[[Position, Any], Position | Verdict]] = {
    ShowNodes: _show_nodes,
    ShowLeaf: _show_leaf,
    ShowTotals: _show_totals,
    ShowAccumulators: _show_accumulators,
    PickNode: _pick_node,
    PickOperation: _pick_operation,
    PickElement: _pick_element,
    PickSegment: _pick_segment,
    PickBlock: _pick_block,
    JudgeElement: _judge_element,
    JudgeJoin: _judge_join,
    JudgeRun: _judge_run,
    JudgeState: _judge_state,
}
