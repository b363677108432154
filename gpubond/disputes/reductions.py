# SPDX-License-Identifier: Apache-2.0
"""What values say in BLOCK (docs/disputes.md, section 2): runs of terms, sums of blocks, totals after them."""

from __future__ import annotations

from typing import NamedTuple

from gpubond.disputes import levels
from gpubond.disputes.position import Position, Reduction, reached
from gpubond.exact import reference


class Run(NamedTuple):
    """At most 16 terms: the first, the one behind the last, and the accumulators before and after them. Bits."""

    first: int
    last: int
    before: int
    after: int


class Join(NamedTuple):
    """The total before a block (None before block 0), its sum, and the total after it. Bits."""

    before: int | None
    block_sum: int
    after: int


def runs_in(position: Position, doubt: Reduction) -> int:
    """How many runs the blocks in doubt have."""
    return levels.runs_shown(_terms(position), doubt.first, doubt.last)


def totals_of(position: Position, doubt: Reduction) -> tuple[int, ...]:
    """The totals after each of the blocks in doubt."""
    return (*doubt.values[runs_in(position, doubt) :], doubt.after)


def run_of(position: Position, doubt: Reduction, number: int) -> Run:
    """A run, counted from the first of the blocks in doubt."""
    begins = number % levels.BLOCK_RUNS == 0
    before = reference.identity(reached(position.operation)) if begins else doubt.values[number - 1]
    first, last = levels.run_terms(_terms(position), doubt.first * levels.BLOCK_RUNS + number)
    return Run(first, last, before, doubt.values[number])


def join_of(position: Position, doubt: Reduction, block: int) -> Join:
    """What belongs to a block, by its number in the whole reduction."""
    at, totals = block - doubt.first, totals_of(position, doubt)
    before = totals[at - 1] if at else doubt.before
    return Join(before, doubt.values[levels.runs_shown(_terms(position), doubt.first, block) - 1], totals[at])


def right_total(position: Position, join: Join) -> int:
    """The total after a block that follows from the one before it and the block's sum."""
    if join.before is None:
        return join.block_sum
    return reference.join(reached(position.operation), join.before, join.block_sum)


def _terms(position: Position) -> int:
    return reference.terms(reached(position.operation))
