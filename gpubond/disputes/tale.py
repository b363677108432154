# SPDX-License-Identifier: Apache-2.0
"""A game as a tale: what was shown and picked at each level, in words for who knows no Merkle trees.

Made of the positions of a game, which follow from its events alone. `gpubond.disputes.tale_page` draws it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from gpubond.disputes import evaluation
from gpubond.disputes.levels import Level, Side
from gpubond.disputes.moves import JudgeElement, JudgeJoin, JudgeRun, JudgeState, Move, PickOperation
from gpubond.disputes.position import Element, OneTensor, Position, Reduction, Verdict, reached
from gpubond.disputes.reductions import join_of, right_total, run_of
from gpubond.disputes.tale_rows import Row, is_shown, row_of
from gpubond.disputes.tale_words import TITLES, bits_hex, doubt_of, found_by, found_last, is_valid, operation
from gpubond.exact import merkle, reference, shapes
from gpubond.exact.merkle import Kind
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
        if is_shown(before):
            grouped.setdefault(before.level, []).append((before, after))
    chapters = tuple(_chapter(level, picks, last) for level, picks in grouped.items())
    judgement = None if last is None else _judgement(end, last)
    ending = _ending(names, last, verdict, timed_out=timed_out)
    return Tale(names, chapters, judgement, verdict.convicted, ending, tuple(costs), tuple(gains), work)


def _ending(names: Names, last: Move | None, verdict: Verdict, *, timed_out: bool) -> str:
    if timed_out:
        loser = names.provider if verdict.convicted else names.challenger
        return f"{loser[:1].upper()}{loser[1:]} did not answer before its clock ran out, and loses."
    if verdict.convicted:
        return f"The contract computed another value than {names.provider} had shown: the job is convicted, for good."
    if isinstance(last, PickOperation):
        if is_valid(last.record):
            return f"There is one fingerprint of no numbers, and {names.challenger} showed another: it has lost."
        return "The program has an operation that means nothing, so that there is no run of it: the challenge is lost."
    return f"The contract computed what {names.provider} had shown: the challenge is lost."


def work_of(ops: Sequence[Op], steps: int) -> int:
    """Single operations of a run: one for each element, of reductions one for each term."""
    return steps * sum(
        shapes.count(op.shape) * (reference.terms(op) if op.code in reference.REDUCTIONS else 1) for op in ops
    )


def _chapter(level: Level, picks: Sequence[tuple[Position, Position | None]], last: Move | None) -> Chapter:
    rows = tuple(row_of(before, after, last) for before, after in picks)
    _, after = picks[-1]
    found = found_last(level, last) if after is None else found_by(level, after)
    return Chapter(level, doubt_of(level, picks[0][0]), rows, found)


def _judgement(end: Position, last: Move) -> Judgement | None:
    doubt = end.doubt
    match last:
        case JudgeRun() if isinstance(doubt, Reduction):
            run = run_of(end, doubt, last.run)
            right = evaluation.run(end, operation(end), run.first, run.last, run.before, last.shown)
            text = (
                f"Terms {run.first + 1:,} to {run.last:,}: the contract begins with {bits_hex(run.before)}, on which "
                f"both agree, and takes {run.last - run.first} terms one after another. Their operands the challenger "
                "showed, each of them proven to be the one that the program reads here."
            )
            return Judgement(text, run.after, right, computed=run.last - run.first)
        case JudgeElement() if isinstance(doubt, Element):
            op = operation(end)
            right = evaluation.element(end, op, reached(end.element), last.shown)
            text = "The contract computes the number from the operands that the challenger showed, each of them proven."
            terms = reference.terms(op) if op.code in reference.REDUCTIONS else 1
            return Judgement(text, doubt.bits, right, computed=terms)
        case JudgeJoin() if isinstance(doubt, Reduction):
            join = join_of(end, doubt, last.block)
            text = "The contract adds the block's sum to the total before it, and compares."
            return Judgement(text, join.after, right_total(end, join), computed=1)
        case JudgeState():
            text = "The contract compares the fingerprint of the tensor that the program names with the one shown."
            right_hash = merkle.hash_leaf(Kind.STATE, last.commitment)
            if isinstance(doubt, OneTensor):
                right_hash = merkle.hash_leaf(reached(end.following).kind, right_hash)
            claimed = row_of(end, None, last).shown
            return Judgement(text, claimed_hash=claimed, right_hash=right_hash.hex())
        case PickOperation() if not is_valid(last.record):
            return Judgement("The operation that was picked means nothing: there is nothing to compute.")
        case _:
            return Judgement("The result has no numbers, so that the contract knows its only right fingerprint.")
