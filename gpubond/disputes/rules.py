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
from gpubond.disputes.levels import SHOWERS, Below, Level, Side
from gpubond.disputes.moves import (
    AnswerNodes,
    JudgeElement,
    JudgeJoin,
    JudgeRun,
    JudgeState,
    Move,
    PickCheckpoint,
    PickElement,
    PickLeaf,
    PickNode,
    PickOperation,
    PickSegment,
    PickState,
    PickStep,
    ShowNodes,
    ShowValues,
)
from gpubond.disputes.position import (
    Element,
    Elements,
    Nodes,
    OneTensor,
    Output,
    Place,
    Position,
    Reduction,
    Seen,
    Verdict,
    reached,
)
from gpubond.disputes.reductions import join_of, right_total, run_of, runs_in
from gpubond.disputes.terms import Terms
from gpubond.exact import commitments, merkle, reference, shapes
from gpubond.exact.merkle import HASH_BYTES, LEAF_BYTES, LEAF_ELEMENTS, Kind
from gpubond.exact.program import Op, parse_record
from gpubond.exact.refusal import Refused

D = TypeVar("D", Nodes, Output, Elements, Element, Reduction)
_WORD = 1 << 32


def begin(terms: Terms, run_root: bytes, nodes: tuple[bytes, ...]) -> Position:
    """The position of a game that was just opened. nodes: the challenger's first of RUN; none if that is passed over.

    Raises: Refused for what the contract refuses.
    """
    _check_hash("run_root", run_root)
    count = terms.checkpoints
    # Of one checkpoint the leaf's hash is the run root.
    start = Position(terms, run_root, Nodes.of(Level.RUN, count), end=Place(Kind.RUN, run_root))
    if count == 1:
        if nodes:
            raise Refused("show.nodes", len(nodes), "must be 0")
        return _in_interval(start, 0, Place(Kind.RUN, run_root))
    shown = _shown(start, Nodes.of(Level.RUN, count), nodes)
    if shown.their_root == run_root:
        raise Refused("show.nodes", run_root.hex(), "is the run root that was committed to")
    return shown


def apply(position: Position, move: Move) -> Position | Verdict:
    """What a move leads to. Raises Refused, naming the field, for one that the contract refuses."""
    turn = _side(position, move)
    if position.turn is not turn:
        raise Refused("move", type(move).__name__, f"it is the {position.turn.value}'s turn")
    return _MOVES[type(move)](position, move)


def _side(position: Position, move: Move) -> Side:
    """Whose move it is."""
    if isinstance(move, PickCheckpoint | PickOperation | PickState | PickElement | ShowValues):
        return Side.ASSERTER
    if isinstance(move, AnswerNodes):
        return position.turn
    if not isinstance(move, ShowNodes | PickNode):
        return Side.CHALLENGER
    shower = SHOWERS[_doubt(position, Nodes).level]
    return shower if isinstance(move, ShowNodes) else shower.other


def _doubt(position: Position, wanted: type[D]) -> D:
    if not isinstance(position.doubt, wanted):
        raise Refused("move", position.level.value, "another move is due at this level")
    return position.doubt


def _nodes(position: Position, level: Level) -> Nodes:
    doubt = _doubt(position, Nodes)
    if doubt.level is not level:
        raise Refused("move", doubt.level.value, "another move is due at this level")
    return doubt


def _operation(position: Position) -> Op:
    return reached(position.operation)


def _check_hash(field: str, value: bytes) -> None:
    if len(value) != HASH_BYTES:
        raise Refused(field, value.hex(), f"must be {HASH_BYTES} bytes")


# Shows.


def _shown(position: Position, doubt: Nodes, nodes: tuple[bytes, ...]) -> Position:
    """After a show of nodes below the one in doubt."""
    below = doubt.below
    found = levels.check_nodes(doubt.kind, doubt.height, below, nodes)
    if doubt.node is not None:
        if found != doubt.node:
            raise Refused("show.nodes", found.hex(), f"must hash up to {doubt.node.hex()}")
    elif doubt.level is Level.RUN:
        position = replace(position, their_root=found)
    elif doubt.level is Level.INTERVAL:
        position = replace(position, interval_root=found)
    elif doubt.level is Level.STEP:
        position = replace(position, step_root=found)
    elif not reached(position.following).holds(found):
        raise Refused("show.nodes", found.hex(), "is not the state that was committed to")
    seen = Seen(SHOWERS[doubt.level], doubt.kind, doubt.height, below.height, below.first, nodes)
    return replace(position, seen=(*position.seen, seen), doubt=replace(doubt, node=found, shown=nodes))


def _show_nodes(position: Position, move: ShowNodes) -> Position:
    return _shown(position, _doubt(position, Nodes), move.nodes)


def _in_interval(position: Position, checkpoint: int, end: Place) -> Position:
    """INTERVAL, of which nothing is shown yet, or STEP if it is passed over."""
    begins, ends = position.terms.interval(checkpoint)
    reached = replace(position, checkpoint=checkpoint, end=end)
    if ends - begins == 1:
        return _in_step(reached, begins, end)
    return replace(reached, doubt=Nodes.of(Level.INTERVAL, ends - begins - 1))


def _in_step(position: Position, step: int, following: Place) -> Position:
    doubt = Nodes.of(Level.STEP, position.terms.statement.op_count)
    return replace(position, step=step, following=following, doubt=doubt)


# Picks in trees.


def _picked(shown: tuple[bytes, ...], below: Below, index: int) -> bytes:
    """The node that is picked of those that are shown."""
    if not 0 <= index - below.first < len(shown):
        raise Refused("pick.index", index, "no node was shown there")
    return shown[index - below.first]


def _picked_leaf(doubt: Nodes, index: int) -> bytes:
    below = doubt.below
    if not doubt.shown or below.height:
        raise Refused("move", doubt.level.value, "the nodes that were shown are not leaves")
    return _picked(doubt.shown, below, index)


def _pick_node(position: Position, move: PickNode) -> Position:
    doubt = _doubt(position, Nodes)
    below = doubt.below
    node = _picked(doubt.shown, below, move.index)
    if not below.height:
        raise Refused("move", "pick_node", "a leaf is picked with what comes after it")
    return replace(position, doubt=replace(doubt, height=below.height, index=move.index, node=node, shown=()))


def _pick_checkpoint(position: Position, move: PickCheckpoint) -> Position:
    theirs = _picked_leaf(_nodes(position, Level.RUN), move.checkpoint)
    _check_hash("pick.leaf", move.leaf)
    if move.path is not None:
        levels_above = merkle.depth(position.terms.checkpoints)
        _check_above("pick.path", Kind.RUN, move.leaf, move.checkpoint, move.path, levels_above, position.run_root)
    _check_other("pick.leaf", move.leaf, theirs)
    after = _in_interval(position, move.checkpoint, Place(Kind.RUN, move.leaf))
    doubt = _doubt(after, Nodes)
    if doubt.level is Level.INTERVAL:
        return _shown(after, doubt, move.nodes)
    if move.nodes:
        raise Refused("show.nodes", len(move.nodes), "must be 0")
    return after


def _check_other(field: str, ours: bytes, theirs: bytes) -> None:
    if ours == theirs:
        raise Refused(field, ours.hex(), "is what the other side has shown")


def _pick_step(position: Position, move: PickStep) -> Position:
    doubt = _nodes(position, Level.INTERVAL)
    begins, ends = position.terms.interval(reached(position.checkpoint))
    if move.state is None:
        _check_none(doubt)
        after = _in_step(position, ends - 1, reached(position.end))
    else:
        after = _in_step(position, begins + move.state, Place(Kind.INTERVAL, _picked_leaf(doubt, move.state)))
    return _shown(after, _doubt(after, Nodes), move.nodes)


def _check_none(doubt: Nodes) -> None:
    if not doubt.at_root or not doubt.shown:
        raise Refused("pick", None, "none is picked of the first nodes only")


def _pick_state(position: Position, move: PickState) -> Position:
    _check_none(_nodes(position, Level.STEP))
    count = position.terms.statement.state_count
    if count > 1:
        return _shown(position, Nodes.of(Level.STATE, count), move.nodes)
    if move.nodes:
        raise Refused("show.nodes", len(move.nodes), "must be 0")
    return replace(position, doubt=OneTensor())


def _pick_operation(position: Position, move: PickOperation) -> Position | Verdict:
    theirs = _picked_leaf(_nodes(position, Level.STEP), move.op)
    terms = position.terms
    evaluation.check_record(terms, 1 + terms.first_output + move.op, move.record, move.path)
    try:
        operation = parse_record(move.record, "pick.record")
    except Refused:
        # There is no run of this program.
        return Verdict(convicted=False)
    elements = shapes.count(operation.shape)
    leaves = -(-elements // LEAF_ELEMENTS)
    height = merkle.depth(leaves) if leaves else 0
    root = merkle.zero(Kind.ELEMENTS, 0)
    if leaves:
        below = levels.output_below(leaves, height, 0, Side.ASSERTER)
        root = levels.check_nodes(Kind.ELEMENTS, height, below, move.nodes)
    elif move.nodes:
        raise Refused("show.nodes", len(move.nodes), "must be 0")
    output = merkle.hash_leaf(Kind.STEP, commitments.tensor_of_root(operation.shape, root))
    _check_other("show.nodes", output, theirs)
    if not leaves:
        return Verdict(convicted=False)
    seen = Seen(Side.ASSERTER, Kind.ELEMENTS, height, below.height, 0, move.nodes)
    doubt = Output(leaves, height, 0, root, move.nodes)
    return replace(
        position, op=move.op, record=move.record, operation=operation, doubt=doubt, seen=(*position.seen, seen)
    )


# Of an output.


def _answer_nodes(position: Position, move: AnswerNodes) -> Position:
    doubt = _doubt(position, Output)
    side, last = position.turn, doubt.last
    theirs = _picked(doubt.shown, last, move.index)
    if not last.height:
        raise Refused("move", "answer_nodes", "a leaf is picked with its elements")
    below = doubt.below(move.index)
    ours = levels.check_nodes(Kind.ELEMENTS, last.height, below, move.nodes)
    _check_other("show.nodes", ours, theirs)
    if side is Side.CHALLENGER:
        if move.path:
            raise Refused("answer.path", len(move.path), "must be empty")
        after = replace(doubt, height=last.height, index=move.index, node=theirs, shown=move.nodes, other=ours)
    else:
        _check_under(doubt, last, move.index, ours, move.path)
        after = replace(doubt, height=last.height, index=move.index, node=ours, shown=move.nodes, other=None)
    seen = Seen(side, Kind.ELEMENTS, last.height, below.height, below.first, move.nodes)
    return replace(position, doubt=after, seen=(*position.seen, seen))


def _check_under(doubt: Output, last: Below, index: int, node: bytes, path: tuple[bytes, ...] | None) -> None:
    """Raises Refused unless the asserter's node stands under the one that the challenger picked."""
    if path is not None:
        _check_above("answer.path", Kind.ELEMENTS, node, index, path, doubt.height - last.height, doubt.node)


def _check_above(
    field: str, kind: Kind, node: bytes, index: int, path: tuple[bytes, ...], levels_above: int, wanted: bytes
) -> None:
    """Raises Refused unless the path leads from a node to the one so many levels above. Whether what stands beside it
    beyond the leaves is as it must be nobody looks: whoever has junk there can only show what is right without it."""
    if len(path) != levels_above:
        raise Refused(field, len(path), f"must be {levels_above}")
    for at, beside in enumerate(path):
        _check_hash(f"{field}[{at}]", beside)
        pair = (beside, node) if index >> at & 1 else (node, beside)
        node = merkle.hash_node(kind, *pair)
    if node != wanted:
        raise Refused(field, node.hex(), f"must lead to {wanted.hex()}")


def _check_leaf(position: Position, field: str, index: int, raw: bytes) -> bytes:
    """Its hash. Raises Refused for one that is no leaf of the output."""
    if len(raw) != LEAF_BYTES:
        raise Refused(field, len(raw), f"must be {LEAF_BYTES} bytes")
    held = 4 * (shapes.count(_operation(position).shape) - index * LEAF_ELEMENTS)
    if any(raw[held:]):
        raise Refused(field, raw[held:].hex(), "bytes beyond the elements must be zero")
    return merkle.hash_leaf(Kind.ELEMENTS, raw)


def _pick_leaf(position: Position, move: PickLeaf) -> Position:
    doubt = _doubt(position, Output)
    last = doubt.last
    theirs = _picked(doubt.shown, last, move.index)
    if last.height or doubt.other is not None:
        raise Refused("move", "pick_leaf", "the nodes that were shown are not the asserter's leaves")
    _check_other("pick.raw", _check_leaf(position, "pick.raw", move.index, move.raw), theirs)
    return replace(position, doubt=Elements(move.index, theirs, move.raw))


def _pick_element(position: Position, move: PickElement) -> Position:
    doubt = _doubt(position, Elements)
    found = _check_leaf(position, "pick.raw", doubt.index, move.raw)
    if found != doubt.node:
        raise Refused("pick.raw", found.hex(), f"its hash must be {doubt.node.hex()}")
    index, at = divmod(move.element, LEAF_ELEMENTS)
    operation = _operation(position)
    if index != doubt.index or not 0 <= move.element < shapes.count(operation.shape):
        raise Refused("pick.element", move.element, f"is not in leaf {doubt.index}")
    place = slice(4 * at, 4 * at + 4)
    _check_other("pick.element", move.raw[place], doubt.theirs[place])
    bits = int.from_bytes(move.raw[place], "little")
    reached = replace(position, element=move.element)
    terms = reference.terms(operation)
    if terms > levels.RUN_TERMS:
        return _with_values(reached, Reduction(0, levels.blocks(terms) - 1, None, bits), move.values)
    if move.values:
        raise Refused("show.values", len(move.values), "must be 0")
    return replace(reached, doubt=Element(bits))


# Of a reduction.


def _with_values(position: Position, doubt: Reduction, values: tuple[int, ...]) -> Position:
    count = len(levels.totals_shown(doubt.first, doubt.last))
    if doubt.level is Level.BLOCK:
        count = runs_in(position, doubt) + doubt.last - doubt.first
    if len(values) != count:
        raise Refused("show.values", len(values), f"must be {count}")
    for at, value in enumerate(values):
        if not 0 <= value < _WORD:
            raise Refused(f"show.values[{at}]", value, "does not fit in 32 bits")
    return replace(position, doubt=replace(doubt, values=values))


def _show_values(position: Position, move: ShowValues) -> Position:
    return _with_values(position, _doubt(position, Reduction), move.values)


def _reduction(position: Position, level: Level) -> Reduction:
    doubt = _doubt(position, Reduction)
    if doubt.level is not level:
        raise Refused("move", doubt.level.value, "another move is due at this level")
    return doubt


def _pick_segment(position: Position, move: PickSegment) -> Position:
    doubt = _reduction(position, Level.TOTALS)
    parts = levels.segments(doubt.first, doubt.last)
    if not 0 <= move.segment < len(parts):
        raise Refused("pick.segment", move.segment, f"there are {len(parts)}")
    first, last = parts[move.segment]
    before = doubt.values[move.segment - 1] if move.segment else doubt.before
    after = (*doubt.values, doubt.after)[move.segment]
    return replace(position, doubt=Reduction(first, last, before, after))


def _judge_join(position: Position, move: JudgeJoin) -> Verdict:
    doubt = _reduction(position, Level.BLOCK)
    if not doubt.first <= move.block <= doubt.last:
        raise Refused("judge.block", move.block, f"must be from {doubt.first} to {doubt.last}")
    join = join_of(position, doubt, move.block)
    return Verdict(convicted=right_total(position, join) != join.after)


def _judge_run(position: Position, move: JudgeRun) -> Verdict:
    doubt = _reduction(position, Level.BLOCK)
    runs = runs_in(position, doubt)
    if not 0 <= move.run < runs:
        raise Refused("judge.run", move.run, f"there are {runs}")
    run = run_of(position, doubt, move.run)
    found = evaluation.run(position, _operation(position), run.first, run.last, run.before, move.shown)
    return Verdict(convicted=found != run.after)


def _judge_element(position: Position, move: JudgeElement) -> Verdict:
    doubt = _doubt(position, Element)
    found = evaluation.element(position, _operation(position), reached(position.element), move.shown)
    return Verdict(convicted=found != doubt.bits)


def _judge_state(position: Position, move: JudgeState) -> Verdict:
    if isinstance(position.doubt, OneTensor):
        if move.tensor != 0:
            raise Refused("judge.tensor", move.tensor, "there is one")
        right = merkle.hash_leaf(Kind.STATE, evaluation.next_tensor(position, move))
        return Verdict(convicted=not reached(position.following).holds(right))
    leaf = _picked_leaf(_nodes(position, Level.STATE), move.tensor)
    right = merkle.hash_leaf(Kind.STATE, evaluation.next_tensor(position, move))
    return Verdict(convicted=right != leaf)


_MOVES: dict[type[Any], Callable[[Position, Any], Position | Verdict]] = {
    ShowNodes: _show_nodes,
    ShowValues: _show_values,
    PickNode: _pick_node,
    PickCheckpoint: _pick_checkpoint,
    PickStep: _pick_step,
    PickOperation: _pick_operation,
    PickState: _pick_state,
    AnswerNodes: _answer_nodes,
    PickLeaf: _pick_leaf,
    PickElement: _pick_element,
    PickSegment: _pick_segment,
    JudgeElement: _judge_element,
    JudgeJoin: _judge_join,
    JudgeRun: _judge_run,
    JudgeState: _judge_state,
}
