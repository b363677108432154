# SPDX-License-Identifier: Apache-2.0
"""Runs of 2**64 - 1 steps, down to the last step: no number in the packed words reaches into another."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from gpubond.disputes import levels
from gpubond.disputes.moves import JudgeState, PickNode, ShowNodes
from gpubond.disputes.position import Nodes, Position
from gpubond.disputes.structs import run_of
from gpubond.disputes.terms import Terms
from gpubond.exact import merkle
from gpubond.exact.merkle import Kind

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
