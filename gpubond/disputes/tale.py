# SPDX-License-Identifier: Apache-2.0
"""A game as a tale: what was shown and picked at each level, in words for who knows no Merkle trees.

Made of the positions of a game, which follow from its events alone. `gpubond.disputes.tale_page` draws it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from gpubond.disputes import evaluation, levels
from gpubond.disputes.levels import Level
from gpubond.disputes.moves import JudgeElement, JudgeJoin, JudgeRun, JudgeState, Move
from gpubond.disputes.position import Block, Elements, Nodes, Position, Side, Totals, Verdict, reached
from gpubond.disputes.tale_words import TITLES, UNITS, bits_hex, doubt_of, found_by, found_last, operation
from gpubond.exact import reference, shapes
from gpubond.exact.merkle import LEAF_ELEMENTS, Kind
from gpubond.exact.program import Op


@dataclass(frozen=True)
class Cost:
    """A transaction. level: of the game, `judge` for its last move, or empty. what: in words. tx: its hash or empty."""

    side: Side
    level: str
    what: str
    gas: int
    tx: str = ""


@dataclass(frozen=True)
class Gain:
    """What somebody gained or lost by the game and the job. amount: with its unit."""

    who: str
    amount: str
    why: str


@dataclass(frozen=True)
class Row:
    """What was shown once: so many things side by side, of which one was picked (None: none of them).

    each: what one of them stands for. shown: the picked one, as hex.
    """

    count: int
    picked: int | None
    each: str
    shown: str


@dataclass(frozen=True)
class Chapter:
    """A level of the game. text: what is in doubt. found: what the picks led to."""

    level: Level
    text: str
    rows: tuple[Row, ...]
    found: str

    @property
    def title(self) -> str:
        return TITLES[self.level]


@dataclass(frozen=True)
class Judgement:
    """What the contract evaluated.

    claimed, right: bits; None where commitments were compared, which `*_hash` are. computed: single operations.
    """

    text: str
    claimed: int | None = None
    right: int | None = None
    claimed_hash: str = ""
    right_hash: str = ""
    computed: int = 0


@dataclass(frozen=True)
class Names:
    """Whom the game is between, and about which job; as they shall be called."""

    job: str
    provider: str
    challenger: str
    about: str


@dataclass(frozen=True)
class Tale:
    """A whole game. work: single operations of the run, if known. ending: how it ended, in a sentence."""

    names: Names
    chapters: tuple[Chapter, ...]
    judgement: Judgement | None
    convicted: bool
    ending: str
    costs: tuple[Cost, ...] = ()
    gains: tuple[Gain, ...] = ()
    work: int | None = None

    @property
    def gas(self) -> int:
        """Of all transactions."""
        return sum(cost.gas for cost in self.costs)


def tell(
    names: Names,
    positions: Sequence[Position],
    last: Move | None,
    verdict: Verdict,
    *,
    timed_out: bool = False,
    costs: Sequence[Cost] = (),
    gains: Sequence[Gain] = (),
    work: int | None = None,
) -> Tale:
    """The tale of a game.

    Args:
        names: whom it is between.
        positions: from the opening on, one after each move but the last.
        last: the move that ended it; None if somebody's clock ran out, or it is not to be seen.
        verdict: how it ended.
        timed_out: somebody's clock ran out.
        costs: of the transactions, in order.
        gains: who got what.
        work: single operations of the run.
    """
    end = positions[-1]
    grouped: dict[Level, list[tuple[Position, Position | None]]] = {}
    for before, after in (*pairwise(positions), (end, None)):
        if before.turn is Side.CHALLENGER:
            grouped.setdefault(before.level, []).append((before, after))
    chapters = tuple(_chapter(level, picks, last) for level, picks in grouped.items())
    judgement = None if last is None else _judgement(end, last, verdict)
    if timed_out:
        loser = names.provider if verdict.convicted else names.challenger
        ending = f"{loser} did not answer before its clock ran out, and loses."
    elif verdict.convicted:
        ending = f"The contract computed another value than {names.provider} had shown: the job is convicted, for good."
    else:
        ending = f"The contract computed what {names.provider} had shown: the challenge is lost."
    return Tale(names, chapters, judgement, verdict.convicted, ending, tuple(costs), tuple(gains), work)


def work_of(ops: Sequence[Op], steps: int) -> int:
    """Single operations of a run: one for each element, of reductions one for each term."""
    return steps * sum(
        shapes.count(op.shape) * (reference.terms(op) if op.code in reference.REDUCTIONS else 1) for op in ops
    )


def _chapter(level: Level, picks: Sequence[tuple[Position, Position | None]], last: Move | None) -> Chapter:
    rows = tuple(_row(before, after, last) for before, after in picks)
    _, after = picks[-1]
    return Chapter(
        level, doubt_of(level, picks[0][0]), rows, found_last(level, last) if after is None else found_by(level, after)
    )


def _row(before: Position, after: Position | None, last: Move | None) -> Row:
    doubt = before.doubt
    match doubt:
        case Nodes():
            return _nodes_row(before, doubt, after, last)
        case Elements():
            at = _element_picked(after, last)
            held = min(LEAF_ELEMENTS, shapes.count(operation(before).shape) - doubt.index * LEAF_ELEMENTS)
            picked = None if at is None else at % LEAF_ELEMENTS
            shown = "" if picked is None else bits_hex(_little(doubt.raw, picked))
            return Row(held, picked, "one number", shown)
        case Totals():
            return _totals_row(doubt, after, last)
        case Block():
            values = (*doubt.accumulators, doubt.total)
            run = last.run if after is None and isinstance(last, JudgeRun) else None
            return Row(len(values), run, "sixteen terms", "" if run is None else bits_hex(values[run]))


def _nodes_row(before: Position, doubt: Nodes, after: Position | None, last: Move | None) -> Row:
    below = levels.below(doubt.count, doubt.height, doubt.index)
    held = 1 << below.height
    unit = UNITS[doubt.level]
    each = f"one {unit[0]}" if held == 1 else f"up to {held:,} {unit[1]}"
    number = _node_picked(doubt, after, last)
    if number is None:
        return Row(below.nodes, None, each, "")
    at = number - below.first
    return Row(below.nodes, at, each, doubt.shown[at].hex())


def _node_picked(doubt: Nodes, after: Position | None, last: Move | None) -> int | None:
    """The number of the node that was picked, from the left of its tree; None for none."""
    if after is None:
        return last.tensor if isinstance(last, JudgeState) and doubt.level is Level.STATE else None
    if isinstance(after.doubt, Nodes) and after.doubt.level is doubt.level:
        return after.doubt.index
    match doubt.level:
        case Level.RUN:
            return after.checkpoint
        case Level.INTERVAL:
            begins, _ = after.terms.interval(reached(after.checkpoint))
            # Only what lies between the checkpoints can be picked.
            return reached(after.step) - begins if reached(after.following).kind is Kind.INTERVAL else None
        case Level.STEP:
            return after.op
        case _:
            return after.doubt.index if isinstance(after.doubt, Elements) else None


def _element_picked(after: Position | None, last: Move | None) -> int | None:
    if after is not None:
        return after.element
    return last.element if isinstance(last, JudgeElement) else None


def _totals_row(doubt: Totals, after: Position | None, last: Move | None) -> Row:
    parts = levels.segments(doubt.first, doubt.last)
    each = "one block of 512 terms" if doubt.sums else f"up to {levels.segment_blocks(doubt.first, doubt.last)} blocks"
    picked, shown = None, ""
    if after is None and isinstance(last, JudgeJoin):
        picked = last.block - doubt.first
        shown = bits_hex((*doubt.totals, doubt.after)[picked])
    elif after is not None and isinstance(after.doubt, Block):
        picked = after.doubt.block - doubt.first
        shown = bits_hex(doubt.sums[picked])
    elif after is not None and isinstance(after.doubt, Totals):
        picked = next(at for at, (first, _) in enumerate(parts) if first == after.doubt.first)
        shown = bits_hex(after.doubt.after)
    return Row(len(parts), picked, each, shown)


def _judgement(end: Position, last: Move, verdict: Verdict) -> Judgement | None:
    doubt = end.doubt
    match last:
        case JudgeRun() if isinstance(doubt, Block):
            op = operation(end)
            before = doubt.accumulators[last.run - 1] if last.run else reference.identity(op)
            first, end_of = levels.run_terms(reference.terms(op), doubt.block, last.run)
            right = evaluation.run(end, op, first, end_of, before, last.shown)
            claimed = (*doubt.accumulators, doubt.total)[last.run]
            text = (
                f"Terms {first + 1:,} to {end_of:,}: the contract begins with {bits_hex(before)}, on which both agree, "
                f"and takes {end_of - first} terms one after another. Their operands the challenger showed, each of "
                "them proven to be the one that the program reads here."
            )
            return Judgement(text, claimed, right, computed=end_of - first)
        case JudgeElement() if isinstance(doubt, Elements):
            op = operation(end)
            right = evaluation.element(end, op, last.element, last.shown)
            text = "The contract computes the number from the operands that the challenger showed, each of them proven."
            claimed = _little(doubt.raw, last.element % LEAF_ELEMENTS)
            terms = reference.terms(op) if op.code in reference.REDUCTIONS else 1
            return Judgement(text, claimed, right, computed=terms)
        case JudgeJoin() if isinstance(doubt, Totals):
            at = last.block - doubt.first
            before_it = doubt.totals[at - 1] if at else doubt.before
            total = doubt.sums[at]
            right = total if before_it is None else reference.join(operation(end), before_it, total)
            text = "The contract adds the block's sum to the total before it, and compares."
            return Judgement(text, (*doubt.totals, doubt.after)[at], right, computed=1)
        case JudgeState():
            text = "The contract compares the fingerprint of the tensor that the program names with the one shown."
            row = _row(end, None, last)
            return Judgement(text, claimed_hash=row.shown, right_hash=last.commitment.hex())
        case _:
            return Judgement("The result has no numbers, so that the contract knows its only right fingerprint.")


def _little(raw: bytes, at: int) -> int:
    return int.from_bytes(raw[4 * at : 4 * at + 4], "little")
