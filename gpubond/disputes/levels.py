# SPDX-License-Identifier: Apache-2.0
"""How each level is cut into pieces: which nodes, totals and accumulators are shown (docs/disputes.md, section 2)."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple

from gpubond.exact import merkle
from gpubond.exact.merkle import HASH_BYTES, Kind
from gpubond.exact.reference import BLOCK
from gpubond.exact.refusal import Refused

MOST_LEVELS = 6  # between a picked node and those that are shown
MOST_SEGMENTS = 64
MOST_BLOCKS = 4  # whose accumulators are shown at once
RUN_TERMS = 16  # that the contract evaluates at once
BLOCK_RUNS = BLOCK // RUN_TERMS


class Side(Enum):
    """Whose move it is."""

    ASSERTER = "asserter"
    CHALLENGER = "challenger"

    @property
    def other(self) -> Side:
        return Side.CHALLENGER if self is Side.ASSERTER else Side.ASSERTER


class Level(Enum):
    """In the order in which a game passes them; after STEP comes either STATE or OUTPUT."""

    RUN = "run"
    INTERVAL = "interval"
    STEP = "step"
    STATE = "state"
    OUTPUT = "output"
    LEAF = "leaf"
    TOTALS = "totals"
    BLOCK = "block"


KINDS = {
    Level.RUN: Kind.RUN,
    Level.INTERVAL: Kind.INTERVAL,
    Level.STEP: Kind.STEP,
    Level.STATE: Kind.STATE,
    Level.OUTPUT: Kind.ELEMENTS,
}
SHOWERS = {
    Level.RUN: Side.CHALLENGER,
    Level.INTERVAL: Side.ASSERTER,
    Level.STEP: Side.CHALLENGER,
    Level.STATE: Side.ASSERTER,
}
# Their root is implied by the first show, and there it may be that no leaf is wrong.
FREE = frozenset((Level.INTERVAL, Level.STEP))


def levels_below(height: int) -> int:
    """How many levels below a node of this height those stand that are shown, in all levels but OUTPUT."""
    shows = max(1, -(-(height - 1) // (MOST_LEVELS - 1)))
    return -(-height // shows)


def output_levels_below(height: int, side: Side) -> int:
    """The same in OUTPUT, where both sides show by turns and the asserter last."""
    shows = 2 * -(-(height + 5) // 10) - 1 if side is Side.ASSERTER else 2 * -(-height // 10)
    return -(-height // shows)


class Below(NamedTuple):
    """Nodes that are shown: their height, the number of the first from the left, and how many of them hold leaves."""

    height: int
    first: int
    nodes: int


def below(leaves: int, height: int, index: int) -> Below:
    """What is shown below a node of a tree, in all levels but OUTPUT."""
    return _cut(leaves, height, index, levels_below(height))


def output_below(leaves: int, height: int, index: int, side: Side) -> Below:
    """What a side shows below a node in OUTPUT."""
    return _cut(leaves, height, index, output_levels_below(height, side))


def _cut(leaves: int, height: int, index: int, levels: int) -> Below:
    low, first = height - levels, index << levels
    return Below(low, first, min(1 << levels, -(-leaves >> low) - first))


def check_nodes(kind: Kind, height: int, shown: Below, nodes: Sequence[bytes]) -> bytes:
    """The node at `height` of a tree, by those below it that hold leaves; beyond them are zero subtrees.

    Raises: Refused for nodes that are not as many as they must be.
    """
    if len(nodes) != shown.nodes:
        raise Refused("show.nodes", len(nodes), f"must be {shown.nodes}")
    for at, node in enumerate(nodes):
        if len(node) != HASH_BYTES:
            raise Refused(f"show.nodes[{at}]", node.hex(), f"must be {HASH_BYTES} bytes")
    return merkle.climb(kind, b"".join(nodes), shown.height, height)


def blocks(terms: int) -> int:
    """How many blocks a reduction of so many terms has."""
    return -(-terms // BLOCK)


def block_terms(terms: int, block: int) -> int:
    """How many terms a block has."""
    return min(BLOCK, terms - block * BLOCK)


def runs(terms: int) -> int:
    """How many runs a block of so many terms has."""
    return -(-terms // RUN_TERMS)


def run_terms(terms: int, run: int) -> tuple[int, int]:
    """The first term of a run, counted in the whole reduction, and the one after its last."""
    block, at = divmod(run, BLOCK_RUNS)
    first = block * BLOCK + at * RUN_TERMS
    return first, min(first + RUN_TERMS, block * BLOCK + block_terms(terms, block))


def segment_blocks(first: int, last: int) -> int:
    """How many blocks each segment of blocks `first` to `last` has."""
    return -(-(last - first + 1) // MOST_SEGMENTS)


def segments(first: int, last: int) -> list[tuple[int, int]]:
    """The first and last block of each segment."""
    size = segment_blocks(first, last)
    return [(begin, min(begin + size - 1, last)) for begin in range(first, last + 1, size)]


def totals_shown(first: int, last: int) -> list[int]:
    """The blocks after which totals are shown."""
    return [end for _, end in segments(first, last)[:-1]]


def runs_shown(terms: int, first: int, last: int) -> int:
    """How many runs blocks `first` to `last` have."""
    return sum(runs(block_terms(terms, block)) for block in range(first, last + 1))
