# SPDX-License-Identifier: Apache-2.0
"""Runs of 2**64 - 1 steps to the last step, and a reduction of 2**31 - 1 terms to the last term:
no number in the packed words reaches into another."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from gpubond.disputes import levels
from gpubond.disputes.levels import Level
from gpubond.disputes.moves import (
    JudgeRun,
    JudgeState,
    Leaf,
    Operand,
    PickCheckpoint,
    PickElement,
    PickLeaf,
    PickNode,
    PickOperation,
    PickSegment,
    PickState,
    PickStep,
    Shown,
    ShowNodes,
    ShowValues,
)
from gpubond.disputes.position import Nodes, Position, Reduction
from gpubond.disputes.terms import Terms
from gpubond.exact import commitments, merkle
from gpubond.exact.merkle import Kind, Opening
from gpubond.exact.program import Op, Opcode, Program, StateTensor

from .table import Game, Table

STEPS = 2**64 - 1


def rows_to_last(kind: Kind, count: int, leaf: bytes) -> tuple[bytes, list[tuple[bytes, ...]]]:
    """A root over that many leaves, and the nodes of each show on the way to its last leaf; the others are junk."""
    geometry = []
    height, index = max(count - 1, 0).bit_length(), 0
    while True:
        below = levels.below(count, height, index)
        geometry.append((height, index, below))
        height, index = below.height, below.first + below.nodes - 1
        if height == 0:
            break
    node = leaf
    rows = []
    for number, (height, _, below) in enumerate(reversed(geometry)):
        others = [hashlib.sha256(bytes([number, at])).digest() for at in range(below.nodes - 1)]
        rows.append((*others, node))
        node = levels.check_nodes(kind, height, below, rows[-1])
    return node, rows[::-1]


def nodes_of(position: Position) -> Nodes:
    assert isinstance(position.doubt, Nodes)
    return position.doubt


def reduction_of(position: Position) -> Reduction:
    assert isinstance(position.doubt, Reduction)
    return position.doubt


def last_leaf(kind: Kind, count: int, leaf: bytes) -> tuple[tuple[bytes, ...], bytes]:
    """The path of a tree's last leaf beside which all else is junk, and the root."""
    places = [(height, count - 1 >> height ^ 1) for height in range((count - 1).bit_length())]
    junk = [hashlib.sha256(bytes([height])).digest() for height, _ in places]
    path = tuple(merkle.zero(kind, height) if place << height >= count else junk[height] for height, place in places)
    return path, Opening(kind, count, count - 1, leaf, path).root()


def descend(table: Table, game: Game, level: Level, rows: list[tuple[bytes, ...]]) -> int:
    """Down a level of which the first nodes are shown, to its last leaf. Returns the number of that."""
    for at, nodes in enumerate(rows):
        doubt = nodes_of(game.position)
        assert doubt.level is level
        below = doubt.below
        if at:
            table.move(game, ShowNodes(nodes))
        last = below.first + below.nodes - 1
        if below.height:
            table.move(game, PickNode(last))
    return last


@pytest.mark.parametrize("is_right", [True, False])
@pytest.mark.parametrize("interval", [1, 2, 3, 2**32, 2**63, STEPS - 1, STEPS])
def test_down_to_the_last_step(table: Table, interval: int, is_right: bool) -> None:
    """The state after it is judged: by the right one the game is lost, by any other the run is convicted."""
    exact = Terms(replace(table.runs.honest.terms.statement, steps=STEPS, interval=interval), 60)
    output = hashlib.sha256(b"output").digest()
    state = merkle.hash_leaf(Kind.STATE, output if is_right else bytes(32))
    leaf = merkle.hash_leaf(Kind.RUN, state)
    path, root = last_leaf(Kind.RUN, exact.checkpoints, leaf)
    _, run = rows_to_last(Kind.RUN, exact.checkpoints, hashlib.sha256(b"theirs").digest())
    begin, end = exact.interval(exact.checkpoints - 1)
    between: list[tuple[bytes, ...]] = []
    if end - begin > 1:
        _, between = rows_to_last(Kind.INTERVAL, end - begin - 1, merkle.hash_leaf(Kind.INTERVAL, state))
    first = between[0] if between else ()
    outputs = (merkle.hash_leaf(Kind.STEP, output),)
    is_one = exact.checkpoints == 1
    game = table.open(table.job(root=root, exact=exact), nodes=() if is_one else run[0])
    if is_one:
        table.move(game, ShowNodes(first))
    else:
        table.move(game, PickCheckpoint(descend(table, game, Level.RUN, run), leaf, path, first))
    if between:
        table.move(game, PickStep(descend(table, game, Level.INTERVAL, between), outputs))
    else:
        table.move(game, ShowNodes(outputs))
    # Leaf i of an interval is the state after its step i.
    assert game.position.step == STEPS - 1 - bool(between)
    assert game.way.step == game.position.step
    table.move(game, PickState(()))
    records = table.runs.honest.task.program.records()
    record = records[1], merkle.tree_of(Kind.PROGRAM, records).path(1)
    table.move(game, JudgeState(0, *record, output, ()))
    assert game.job.convicted != is_right


LONGEST = 2**31 - 1
VALUE = 0x40490FDB


@pytest.mark.parametrize("is_right", [True, False])
def test_down_to_the_last_term_of_the_longest_reduction(table: Table, is_right: bool) -> None:
    """The last of 65,535 operations sums 2**31 - 1 zeros, and its last run adds 15 of them to what was shown."""
    small = Program((StateTensor((LONGEST,), 0),), (), (Op(Opcode.SUM, (0,), ((LONGEST,),), ()),)).records()
    records = [*small[:2], *[small[2]] * 65_535]
    program = merkle.tree_of(Kind.PROGRAM, records)
    leaves = -(-LONGEST // merkle.LEAF_ELEMENTS)
    zeros, path = (
        merkle.hash_leaf(Kind.ELEMENTS, bytes(256)),
        [hashlib.sha256(bytes([at])).digest() for at in range(25)],
    )
    elements = Opening(Kind.ELEMENTS, leaves, leaves - 1, zeros, tuple(path)).root()
    initial = merkle.hash_leaf(Kind.STATE, commitments.tensor_of_root((LONGEST,), elements))
    statement = table.runs.honest.terms.statement
    statement = replace(statement, op_count=65_535, program=program.root, initial=initial, steps=1, interval=1)
    exact = Terms(statement, 60)

    claimed, theirs = (VALUE, VALUE + 1) if is_right else (VALUE + 1, VALUE)
    raw, other = (value.to_bytes(4, "little").ljust(256, b"\0") for value in (claimed, theirs))
    output = commitments.tensor_of_root((), merkle.hash_leaf(Kind.ELEMENTS, other))
    _, rows = rows_to_last(Kind.STEP, 65_535, merkle.hash_leaf(Kind.STEP, output))

    game = table.open(table.job(exact=exact), nodes=())
    table.move(game, ShowNodes(rows[0]))
    assert descend(table, game, Level.STEP, rows) == 65_534
    nodes = (merkle.hash_leaf(Kind.ELEMENTS, raw),)
    table.move(game, PickOperation(65_534, records[-1], program.path(len(records) - 1), nodes))
    table.move(game, PickLeaf(0, other))
    table.move(game, PickElement(0, raw, (2**32 - 1,) * 63))
    segments = 0
    while reduction_of(game.position).level is Level.TOTALS:
        shown = len(reduction_of(game.position).values)
        table.move(game, PickSegment(shown))
        doubt = reduction_of(game.position)
        totals = (2**32 - 1,) * len(levels.totals_shown(doubt.first, doubt.last))
        table.move(game, ShowValues(totals or (2**32 - 1,) * 30 + (VALUE, claimed)))
        segments += 1
    assert segments == 4
    operand = Operand(elements, 0, (), (Leaf(bytes(256), tuple(path)),))
    table.move(game, JudgeRun(31, Shown((operand,))))
    assert game.job.convicted != is_right
