# SPDX-License-Identifier: Apache-2.0
"""How levels are cut: the numbers of docs/disputes.md, section 2."""

from __future__ import annotations

from itertools import pairwise

import pytest

from gpubond.disputes import levels
from gpubond.exact import merkle
from gpubond.exact.merkle import Kind
from gpubond.exact.reference import BLOCK
from gpubond.exact.refusal import Refused


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


@pytest.mark.parametrize("count", [1, 2, 3, 5, 63, 64, 65, 66, 100, 129, 2049])
def test_nodes_hash_up(count: int) -> None:
    """Every node of a tree by those below it, down to the leaves, with none left out."""
    tree = merkle.tree_of(Kind.STEP, [at.to_bytes(32, "big") for at in range(count)])
    nodes, leaves = [(merkle.depth(count), 0)], 0
    while nodes:
        height, index = nodes.pop()
        below = levels.below(count, height, index)
        shown = tree.nodes(*below)
        assert levels.check_nodes(Kind.STEP, count, height, index, shown) == tree.node(height, index)
        for wrong in (shown[1:], (*shown, bytes(32)), (*shown[1:], b"")):
            with pytest.raises(Refused, match=r"show\.nodes"):
                levels.check_nodes(Kind.STEP, count, height, index, wrong)
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


def test_runs_of_a_block() -> None:
    assert [levels.runs(terms) for terms in (1, 16, 17, 32, 511, 512)] == [1, 1, 2, 2, 32, 32]
    assert [levels.block_terms(1030, block) for block in range(3)] == [512, 512, 6]
    assert [levels.blocks(terms) for terms in (0, 1, 512, 513, 1024, 1025)] == [0, 1, 1, 2, 2, 3]
