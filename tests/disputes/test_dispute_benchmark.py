# SPDX-License-Identifier: Apache-2.0
"""What `benchmarks/dispute.py` plays is a game by the rules, and what it draws and keeps is what was measured."""

from __future__ import annotations

import json
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from benchmarks.dispute import LIMITS, PEERS, RESULTS, against_peers
from benchmarks.dispute_chart import STYLES, draw
from benchmarks.dispute_synthetic import Size, Sparse, Synthetic
from gpubond.disputes import levels
from gpubond.disputes.levels import Level
from gpubond.exact import merkle
from gpubond.exact.merkle import Kind
from tests.disputes.play import play


@pytest.mark.parametrize(
    "size",
    [
        Size(),
        Size(steps=100),
        Size(steps=10**12),
        Size(ops=10),
        Size(ops=65_535),
        Size(side=46_340),
        Size(side=100),
        Size(interval=10),
        Size(interval=10**6),
        replace(Size(), states=1, datas=0),
    ],
    ids=str,
)
def test_a_run_of_any_size_is_convicted_by_the_rules(size: Size) -> None:
    both = Synthetic(size)
    game = play(both.terms, both.run_root, both, both)
    assert game.convicted and game.ending == "judged"


def test_the_game_that_is_limited_passes_through_all_levels() -> None:
    both = Synthetic(Size())
    reached = play(both.terms, both.run_root, both, both).levels
    assert reached == [level.value for level in Level if level is not Level.STATE]
    said = both.terms.statement
    assert (said.steps, said.interval, said.op_count) == (10**6, 10**4, 10**3)
    assert both.size.side**2 == 10**8


@pytest.mark.parametrize("count", [1, 2, 5, 64, 100])
def test_a_sparse_tree_whose_leaves_are_all_real_is_the_tree(count: int) -> None:
    leaves = [bytes([at]) * 32 for at in range(count)]
    sparse = Sparse("x", Kind.STEP, count, dict(enumerate(leaves)))
    whole = merkle.tree_of(Kind.STEP, leaves)
    assert sparse.root == whole.root
    for at in range(count):
        assert sparse.path(at) == whole.path(at)


def test_made_up_nodes_fit_together_where_they_are_shown() -> None:
    count = 1_562_500
    tree = Sparse("x", Kind.ELEMENTS, count, {1_000_000: bytes(256)})
    height, index, above = merkle.depth(count), 0, tree.root
    while height:
        shown = levels.below(count, height, index)
        nodes = tree.nodes(*shown)
        assert levels.check_nodes(Kind.ELEMENTS, count, height, index, nodes) == above
        height = shown.height
        index = 1_000_000 >> height
        above = nodes[index - shown.first]
    assert above == merkle.hash_leaf(Kind.ELEMENTS, bytes(256))


def test_the_chart_has_a_mark_for_each_point() -> None:
    growth = {name: [{"size": 10**at, "gas": 10**6 + at} for at in (1, 3, 9)] for name in STYLES}
    drawn = ElementTree.fromstring(draw(growth, 10**6))  # noqa: S314 - our own
    lines = [node for node in drawn.iter() if node.tag.endswith("polyline")]
    assert [len(line.attrib["points"].split()) for line in lines] == [3] * len(STYLES)


def test_the_published_figures_are_what_the_limits_are_about() -> None:
    kept = json.loads((RESULTS / "dispute.json").read_text("utf-8"))
    assert {entry["name"] for entry in kept["limits"]} == set(LIMITS)
    for entry in kept["limits"]:
        assert entry["value"] == kept["figures"][entry["name"]]
        assert entry["within"] == (entry["value"] <= LIMITS[entry["name"]][0])
    for name in ("digits", "synthetic"):
        game = kept["games"][name]
        assert game["gas"] == kept["figures"][f"{name}_gas"] == sum(level["gas"] for level in game["levels"].values())
        assert game["gas_without_intrinsic"] == game["gas"] - 21_000 * game["transactions"]
    drawn = draw(kept["growth"], kept["games"]["synthetic"]["gas"])
    assert (RESULTS / "dispute_growth.svg").read_text("utf-8") == drawn
    assert kept["peers"] == against_peers(kept["figures"], json.loads(PEERS.read_text("utf-8")))
