# SPDX-License-Identifier: Apache-2.0
"""What `benchmarks/dispute.py` plays is a game by the rules, and what it draws and keeps is what was measured."""

from __future__ import annotations

import json
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from benchmarks.dispute import LIMITS, PEERS, RESULTS, against_peers
from benchmarks.dispute_chain import END, Played, Turn
from benchmarks.dispute_chart import STYLES, draw
from benchmarks.dispute_synthetic import Size, Sparse, Synthetic
from gpubond.disputes import levels, rules
from gpubond.disputes.levels import Level, Side
from gpubond.exact import merkle
from gpubond.exact.merkle import Kind
from tests.disputes.play import Game, play


def played(both: Synthetic) -> Game:
    """The game by the rules. What a player has to say of what differs it must find in what was shown."""
    opening = rules.begin(both.terms, both.run_root, both.challenger.opening())
    return play(opening, both.asserter, both.challenger)


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
    game = played(Synthetic(size))
    assert game.convicted and game.ending == "judged"


def test_the_game_that_is_limited_passes_through_all_levels() -> None:
    both = Synthetic(Size())
    assert played(both).levels == [level.value for level in Level if level is not Level.STATE]
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


@pytest.mark.parametrize(("kind", "count"), [(Kind.ELEMENTS, 1_562_500), (Kind.RUN, 100_000)], ids=str)
def test_made_up_nodes_fit_together_where_they_are_shown_and_differ_from_the_lie_on(kind: Kind, count: int) -> None:
    wrong = 2 * count // 3
    sides = {side: Sparse("x", kind, count, {wrong: side.value.encode() * 32}, side, wrong) for side in Side}
    height, index, turn = merkle.depth(count), 0, Side.ASSERTER
    above = {side: tree.root for side, tree in sides.items()}
    while height:
        shown = sides[turn].below(height, index, turn)
        nodes = {side: tree.nodes(*shown) for side, tree in sides.items()}
        for side in Side:
            assert levels.check_nodes(kind, height, shown, nodes[side]) == above[side]
        differ = [one != other for one, other in zip(*nodes.values(), strict=True)]
        height = shown.height
        index = wrong >> height
        assert differ.index(True) == index - shown.first and all(differ[index - shown.first :])
        above = {side: nodes[side][index - shown.first] for side in Side}
        turn = turn.other
    for side in Side:
        assert above[side] == merkle.hash_leaf(kind, side.value.encode() * 32)


@pytest.mark.parametrize("height", [0, 3])
def test_a_path_leads_from_a_node_up_to_another(height: int) -> None:
    tree = Sparse("x", Kind.ELEMENTS, 1_562_500, {1_000_000: bytes(256)})
    index, top = 1_000_000 >> height, 12
    node = tree.node(height, index)
    for at, beside in enumerate(tree.path(index, height, top)):
        node = merkle.hash_node(Kind.ELEMENTS, *((beside, node) if index >> at & 1 else (node, beside)))
    assert node == tree.node(top, index >> top - height)


@pytest.mark.parametrize(("moves", "rounds"), [(2, 1), (3, 2), (21, 11)])
def test_a_round_is_a_move_of_each_side(moves: int, rounds: int) -> None:
    sides = [(Side.CHALLENGER, Side.ASSERTER)[at % 2].value for at in range(moves)]
    turns = [Turn(side, "run", "pick_node", 30_000, 100) for side in sides]
    assert Played(turns=[*turns, Turn(Side.CHALLENGER.value, END, "convict", 90_000, 100)]).rounds == rounds


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
        turns = [move for move in game["moves"] if move["level"] != END]
        assert [move["side"] for move in turns] == [("challenger", "asserter")[at % 2] for at in range(len(turns))]
        assert kept["figures"][f"{name}_rounds"] == game["rounds"] == (len(turns) + 1) // 2
    drawn = draw(kept["growth"], kept["games"]["synthetic"]["gas"])
    assert (RESULTS / "dispute_growth.svg").read_text("utf-8") == drawn
    assert kept["peers"] == against_peers(kept["figures"], json.loads(PEERS.read_text("utf-8")))
