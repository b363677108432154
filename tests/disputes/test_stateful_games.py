# SPDX-License-Identifier: Apache-2.0
"""Random walks through disputes: in every step bonds in are bonds out and burned, what is final has no open game, and
what is convicted is never paid."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields

import boa
import pytest

from gpubond.disputes.levels import Level
from gpubond.exact.program import Opcode
from tests.disputes.contracts import Laid, World
from tests.disputes.stateful import Subject, Walk, subjects
from tests.disputes.tasks import every_level_task, single_task, summing_task, wide_task
from tests.exact.conftest import Counted
from tests.exact_contracts.operations import drawing
from tests.unit.dispute_game.table import Table

SEED = 20261201
WALKS, LONG = 4, 2_500
LEVELS = {level.value for level in Level}
STEPS = {"open", "move", "time_out", "convict", "claim", "release", "withdraw", "settle"}


def table_of(world: World) -> Table:
    return Table(**{field.name: getattr(world, field.name) for field in fields(Laid)})


def walked(world: World, some: list[Subject], walks: int, steps: int, seed: int) -> tuple[Counter[str], set[str]]:
    """Makes so many walks. Returns the levels, ends and refusals that were seen, and the steps that were taken."""
    seen: Counter[str] = Counter()
    done: set[str] = set()
    for number in range(walks):
        with boa.env.anchor():
            walk = Walk(table_of(world), some, seed + number)
            walk.walk(steps)
            seen += walk.seen
            done |= walk.done
    return seen, done


def test_a_walk(world: World) -> None:
    some = subjects([every_level_task(), single_task(3, 2)], 2, drawing(SEED))
    seen, done = walked(world, some, 1, 250, SEED)
    assert seen["refused"] > 10 and len(set(seen) & LEVELS) > 3, seen
    assert {"open", "move"} <= done, done


@pytest.mark.extended
@pytest.mark.timeout(3600)
def test_long_walks(world: World, counted: Counted) -> None:
    tasks = [every_level_task(), every_level_task(70, 66), single_task(3, 2), summing_task(66 * 512 + 3), wide_task()]
    tasks += [single_task(2, 1, Opcode.MUL), summing_task(700, Opcode.MATMUL_NT)]
    some = subjects(tasks, 3, drawing(SEED))
    seen, done = walked(world, some, WALKS, LONG, SEED + 1)
    assert set(seen) >= LEVELS | {"convicted", "lost", "refused"}, seen
    assert done >= STEPS, done
    counted(WALKS * LONG, SEED + 1)
