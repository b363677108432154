# SPDX-License-Identifier: Apache-2.0
"""Runs of 2**64 - 1 steps to the last step, and a reduction of 2**31 - 1 terms to the last term:
no number in the packed words reaches into another."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from gpubond.disputes import levels
from gpubond.disputes.moves import (
    JudgeRun,
    JudgeState,
    Leaf,
    Operand,
    PickBlock,
    PickElement,
    PickNode,
    PickOperation,
    PickSegment,
    ShowAccumulators,
    ShowLeaf,
    Shown,
    ShowNodes,
    ShowTotals,
)
from gpubond.disputes.position import Nodes, Position, Totals
from gpubond.disputes.structs import run_of
from gpubond.disputes.terms import Terms
from gpubond.exact import commitments, merkle
from gpubond.exact.merkle import Kind, Opening
from gpubond.exact.program import Op, Opcode, Program, StateTensor

from .table import Table

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
    for number, (height, index, below) in enumerate(reversed(geometry)):
        others = [hashlib.sha256(bytes([number, at])).digest() for at in range(below.nodes - 1)]
        rows.append((*others, node))
        node = levels.check_nodes(kind, count, height, index, rows[-1])
    return node, rows[::-1]


def nodes_of(position: Position) -> Nodes:
    assert isinstance(position.doubt, Nodes)
    return position.doubt


@pytest.mark.parametrize("is_right", [True, False])
@pytest.mark.parametrize("interval", [1, 2, 3, 2**32, 2**63, STEPS - 1, STEPS])
def test_down_to_the_last_step(table: Table, interval: int, is_right: bool) -> None:
    """The state after it is judged: by the right one the game is lost, by any other the run is convicted."""
    exact = Terms(replace(table.honest.terms.statement, steps=STEPS, interval=interval), 60)
    output = hashlib.sha256(b"output").digest()
    state = merkle.hash_leaf(Kind.STATE, output if is_right else bytes(32))
    root, run = rows_to_last(Kind.RUN, exact.checkpoints, merkle.hash_leaf(Kind.RUN, state))
    begin, end = exact.interval(exact.checkpoints - 1)
    between: list[tuple[bytes, ...]] = []
    if end - begin > 1:
        _, between = rows_to_last(Kind.INTERVAL, end - begin - 1, merkle.hash_leaf(Kind.INTERVAL, state))
    game = table.open(table.job(root, exact=exact), run=run_of(exact))
    for kind, rows in ((Kind.RUN, run if exact.checkpoints > 1 else []), (Kind.INTERVAL, between)):
        for nodes in rows:
            doubt = nodes_of(game.position)
            assert doubt.kind is kind
            below = levels.below(doubt.count, doubt.height, doubt.index)
            table.move(game, ShowNodes(nodes))
            table.move(game, PickNode(below.first + below.nodes - 1))
    # Leaf i of an interval is the state after its step i.
    assert game.position.step == STEPS - 1 - bool(between)
    table.move(game, ShowNodes((merkle.hash_leaf(Kind.STEP, output),)))
    assert game.way.step == game.position.step
    records = table.honest.task.program.records()
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
    statement = table.honest.terms.statement
    statement = replace(statement, op_count=65_535, program=program.root, initial=initial, steps=1, interval=1)
    exact = Terms(statement, 60)

    claimed = VALUE if is_right else VALUE + 1
    raw = claimed.to_bytes(4, "little").ljust(256, b"\0")
    output = commitments.tensor_of_root((), merkle.hash_leaf(Kind.ELEMENTS, raw))
    _, rows = rows_to_last(Kind.STEP, 65_535, merkle.hash_leaf(Kind.STEP, output))

    game = table.open(table.job(exact=exact), run=run_of(exact))
    for at, nodes in enumerate(rows):
        doubt = nodes_of(game.position)
        below = levels.below(doubt.count, doubt.height, doubt.index)
        table.move(game, ShowNodes(nodes))
        if at < len(rows) - 1:
            table.move(game, PickNode(below.first + below.nodes - 1))
    table.move(game, PickOperation(65_534, records[-1], program.path(len(records) - 1)))
    table.move(game, ShowLeaf(raw))
    table.move(game, PickElement(0))
    while isinstance(game.position.doubt, Totals):
        first, last = game.position.doubt.first, game.position.doubt.last
        shown = len(levels.totals_shown(first, last))
        if levels.segment_blocks(first, last) > 1:
            table.move(game, ShowTotals((), (2**32 - 1,) * shown))
            table.move(game, PickSegment(shown))
        else:
            table.move(game, ShowTotals((*[2**32 - 1] * (last - first), claimed), (2**32 - 1,) * shown))
            table.move(game, PickBlock(last))
    table.move(game, ShowAccumulators((2**32 - 1,) * 30 + (VALUE,)))
    operand = Operand(elements, 0, (), (Leaf(bytes(256), tuple(path)),))
    table.move(game, JudgeRun(31, Shown((operand,))))
    assert game.job.convicted != is_right
