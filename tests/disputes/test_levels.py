# SPDX-License-Identifier: Apache-2.0
"""How levels are cut: the numbers of docs/disputes.md, section 2."""

from __future__ import annotations

from itertools import pairwise

import pytest

from gpubond.disputes import levels
from gpubond.disputes.levels import Side
from gpubond.exact import merkle
from gpubond.exact.merkle import Kind
from gpubond.exact.reference import BLOCK
from gpubond.exact.refusal import Refused

MOST_VALUES = 131


@pytest.mark.parametrize(
    ("height", "shown"),
    [
        (0, [0]),
        (1, [1]),
        (5, [5]),
        (6, [6]),
        (7, [4, 3]),
        (11, [6, 5]),
        (12, [4, 4, 4]),
        (16, [6, 5, 5]),
        (21, [6, 5, 5, 5]),
        (64, [5] * 12 + [4]),
    ],
)
def test_levels_from_root_to_leaf(height: int, shown: list[int]) -> None:
    found: list[int] = []
    while height or not found:
        found.append(levels.levels_below(height))
        height -= found[-1]
    assert found == shown


def test_every_show_fits_and_reaches_the_leaves() -> None:
    for top in range(65):
        height, shows = top, 0
        while height or not shows:
            step = levels.levels_below(height)
            assert step <= levels.MOST_LEVELS and (step or not top)
            height, shows = height - step, shows + 1
        assert shows == max(1, -(-(top - 1) // 5))


@pytest.mark.parametrize(
    ("height", "shown"),
    [
        (0, [0]),
        (1, [1]),
        (5, [5]),
        (6, [2, 2, 2]),
        (10, [4, 3, 3]),
        (11, [4, 4, 3]),
        (15, [5, 5, 5]),
        (16, [4, 3, 3, 3, 3]),
        (25, [5, 5, 5, 5, 5]),
        (26, [4, 4, 4, 4, 4, 3, 3]),
    ],
)
def test_levels_of_an_output(height: int, shown: list[int]) -> None:
    """Both sides by turns."""
    assert by_turns(height) == shown


def by_turns(height: int) -> list[int]:
    side, found = Side.ASSERTER, [levels.output_levels_below(height, Side.ASSERTER)]
    while height := height - found[-1]:
        side = side.other
        found.append(levels.output_levels_below(height, side))
    assert side is Side.ASSERTER, "the last one shows leaves, of which the other picks one"
    return found


def test_every_show_of_an_output_fits_and_the_asserter_shows_last() -> None:
    for top in range(65):
        found = by_turns(top)
        assert len(found) == 2 * -(-(top + 5) // 10) - 1 and sum(found) == top
        assert max(found) <= 5 and (min(found) or top == 0)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 63, 64, 65, 66, 100, 129, 2049])
def test_nodes_hash_up(count: int) -> None:
    """Every node of a tree by those below it, down to the leaves, with none left out."""
    tree = merkle.tree_of(Kind.STEP, [at.to_bytes(32, "big") for at in range(count)])
    nodes, leaves = [(merkle.depth(count), 0)], 0
    while nodes:
        height, index = nodes.pop()
        below = levels.below(count, height, index)
        shown = tree.nodes(*below)
        assert levels.check_nodes(Kind.STEP, height, below, shown) == tree.node(height, index)
        for wrong in (shown[1:], (*shown, bytes(32)), (*shown[1:], b"")):
            with pytest.raises(Refused, match=r"show\.nodes"):
                levels.check_nodes(Kind.STEP, height, below, wrong)
        if below.height:
            nodes += [(below.height, below.first + at) for at in range(below.nodes)]
        else:
            leaves += below.nodes
    assert leaves == count


@pytest.mark.parametrize("last", [0, 1, 62, 63, 64, 65, 127, 128, 129, 4095, 4096, 10_000, 2**31 // BLOCK])
def test_segments_cover_all_blocks(last: int) -> None:
    for first in {0, 1, last // 2, last}:
        if first > last:
            continue
        parts = levels.segments(first, last)
        assert len(parts) <= levels.MOST_SEGMENTS
        assert parts[0][0] == first and parts[-1][1] == last
        assert all(end + 1 == begin for (_, end), (begin, _) in pairwise(parts))
        assert {end - begin + 1 for begin, end in parts[:-1]} <= {levels.segment_blocks(first, last)}
        assert levels.totals_shown(first, last) == [end for _, end in parts[:-1]]


@pytest.mark.parametrize("terms", [17, 512, 513, 1030, 2047, 2048])
def test_runs_of_blocks_that_are_shown_at_once(terms: int) -> None:
    """They are all terms, in order, each block's by themselves."""
    last = levels.blocks(terms) - 1
    runs = levels.runs_shown(terms, 0, last)
    spans = [levels.run_terms(terms, run) for run in range(runs)]
    assert spans[0][0] == 0 and spans[-1][1] == terms
    assert all(end == begin for (_, end), (begin, _) in pairwise(spans))
    assert all(0 < end - begin <= 16 and begin // BLOCK == (end - 1) // BLOCK for begin, end in spans)
    assert runs + last <= MOST_VALUES
    for first in range(last + 1):
        assert levels.runs_shown(terms, first, last) == len([begin for begin, _ in spans if begin >= first * BLOCK])


def test_what_is_shown_of_values_has_a_bound() -> None:
    """524 bytes: of four blocks all runs, and three totals."""
    assert levels.runs_shown(4 * BLOCK, 0, 3) + 3 == MOST_VALUES
    assert levels.MOST_SEGMENTS - 1 < MOST_VALUES


def test_runs_of_a_block() -> None:
    assert [levels.runs(terms) for terms in (1, 16, 17, 32, 511, 512)] == [1, 1, 2, 2, 32, 32]
    assert [levels.block_terms(1030, block) for block in range(3)] == [512, 512, 6]
    assert [levels.blocks(terms) for terms in (0, 1, 512, 513, 1024, 1025)] == [0, 1, 1, 2, 2, 3]
