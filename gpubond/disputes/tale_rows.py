# SPDX-License-Identifier: Apache-2.0
"""What was shown side by side in a game, and which of it was picked: the rows of a tale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gpubond.disputes import levels
from gpubond.disputes.levels import SHOWERS, Below, Level, Side
from gpubond.disputes.moves import JudgeJoin, JudgeRun, JudgeState, Move, PickOperation
from gpubond.disputes.position import Element, Elements, Nodes, OneTensor, Output, Position, Reduction, reached
from gpubond.disputes.reductions import totals_of
from gpubond.disputes.tale_words import UNITS, bits_hex, operation
from gpubond.exact import commitments, merkle, reference, shapes
from gpubond.exact.merkle import LEAF_ELEMENTS, Kind


@dataclass(frozen=True)
class Row:
    """What was shown once: so many things side by side, of which one was picked (None: none of them).

    each: what one of them stands for. by: who showed them. shown: the picked one, as hex. own: what who picked it has
    there, as hex; empty if that was not said.
    """

    count: int
    picked: int | None
    each: str
    by: Side
    shown: str = ""
    own: str = ""


def is_shown(position: Position) -> bool:
    """Whether something lies there of which one thing is to be picked."""
    match position.doubt:
        case Nodes() as doubt:
            return bool(doubt.shown)
        case Reduction() as doubt:
            return bool(doubt.values)
        case Element():
            return False
    return True


def row_of(before: Position, after: Position | None, last: Move | None) -> Row:
    """What was shown in a position. after: the next one; if there is none the game ended by `last`, or by a clock."""
    match before.doubt:
        case Nodes() as doubt:
            below = doubt.below
            number = _picked(doubt, after, last)
            own = _own_leaf(doubt.level, after, last, number)
            return _nodes(below, UNITS[doubt.level], SHOWERS[doubt.level], doubt.shown, number, own)
        case Output() as doubt:
            number, own = _answered(after)
            return _nodes(doubt.last, UNITS[Level.OUTPUT], doubt.shower, doubt.shown, number, own)
        case Elements() as doubt:
            return _elements(before, doubt, after)
        case Reduction() as doubt if doubt.level is Level.TOTALS:
            return _totals(doubt, after)
        case Reduction() as doubt:
            return _blocks(before, doubt, last if after is None else None)
        case OneTensor():
            picked = 0 if after is None and isinstance(last, JudgeState) else None
            return Row(1, picked, "the one tensor of the state", Side.ASSERTER, reached(before.following).hash.hex())
        case Element():
            raise ValueError("of one element there is nothing to pick")


def _nodes(
    below: Below, unit: tuple[str, str], by: Side, shown: Sequence[bytes], number: int | None, own: bytes | None
) -> Row:
    held = 1 << below.height
    each = f"one {unit[0]}" if held == 1 else f"up to {held:,} {unit[1]}"
    if number is None:
        return Row(below.nodes, None, each, by)
    at = number - below.first
    return Row(below.nodes, at, each, by, shown[at].hex(), "" if own is None else own.hex())


def _picked(doubt: Nodes, after: Position | None, last: Move | None) -> int | None:
    """The number of the node that was picked, from the left of its tree; None for none."""
    if after is None:
        if isinstance(last, PickOperation):
            return last.op
        return last.tensor if isinstance(last, JudgeState) else None
    if isinstance(after.doubt, Nodes) and after.doubt.level is doubt.level:
        return after.doubt.index
    if doubt.level is Level.RUN:
        return after.checkpoint
    if doubt.level is Level.STEP:
        return after.op
    begins, _ = after.terms.interval(reached(after.checkpoint))
    # Only what lies between the checkpoints can be picked.
    return reached(after.step) - begins if reached(after.following).kind is Kind.INTERVAL else None


def _own_leaf(level: Level, after: Position | None, last: Move | None, number: int | None) -> bytes | None:
    """What who picked a leaf showed of its own there."""
    if number is None or after is None or (isinstance(after.doubt, Nodes) and after.doubt.level is level):
        return None
    if level is Level.RUN:
        return reached(after.end).hash
    if level is Level.STEP and isinstance(after.doubt, Output):
        commitment = commitments.tensor_of_root(operation(after).shape, after.doubt.node)
        return merkle.hash_leaf(Kind.STEP, commitment)
    return None


def _answered(after: Position | None) -> tuple[int | None, bytes | None]:
    """Of OUTPUT the node that was picked, and the one there of who picked it."""
    match None if after is None else after.doubt:
        case Output() as doubt:
            return doubt.index, doubt.node if doubt.other is None else doubt.other
        case Elements() as doubt:
            return doubt.index, merkle.hash_leaf(Kind.ELEMENTS, doubt.theirs)
    return None, None


def _elements(before: Position, doubt: Elements, after: Position | None) -> Row:
    held = min(LEAF_ELEMENTS, shapes.count(operation(before).shape) - doubt.index * LEAF_ELEMENTS)
    if after is None:
        return Row(held, None, "one number", Side.CHALLENGER)
    at = reached(after.element) % LEAF_ELEMENTS
    theirs = bits_hex(int.from_bytes(doubt.theirs[4 * at : 4 * at + 4], "little"))
    match after.doubt:
        case Element() as found:
            own = found.bits
        case Reduction() as found:
            own = found.after
        case _:
            raise ValueError("an element was picked, and there is none")
    return Row(held, at, "one number", Side.CHALLENGER, theirs, bits_hex(own))


def _totals(doubt: Reduction, after: Position | None) -> Row:
    parts = levels.segments(doubt.first, doubt.last)
    size = levels.segment_blocks(doubt.first, doubt.last)
    each = "the total after one more block" if size == 1 else f"the total after up to {size:,} more blocks"
    if after is None or not isinstance(after.doubt, Reduction):
        return Row(len(parts), None, each, Side.ASSERTER)
    picked = [first for first, _ in parts].index(after.doubt.first)
    return Row(len(parts), picked, each, Side.ASSERTER, bits_hex(after.doubt.after))


def _blocks(before: Position, doubt: Reduction, last: Move | None) -> Row:
    """Of each block what came together after each run of its terms, and then the total after the block."""
    terms = reference.terms(operation(before))
    values, runs = [], 0
    totals = totals_of(before, doubt)
    picked = None
    for at, block in enumerate(range(doubt.first, doubt.last + 1)):
        held = levels.runs(levels.block_terms(terms, block))
        if isinstance(last, JudgeRun) and runs <= last.run < runs + held:
            picked = last.run + at
        if isinstance(last, JudgeJoin) and last.block == block:
            picked = runs + held + at
        values += [*doubt.values[runs : runs + held], totals[at]]
        runs += held
    shown = "" if picked is None else bits_hex(values[picked])
    return Row(len(values), picked, "sixteen terms of a block, or the total after it", Side.ASSERTER, shown)
