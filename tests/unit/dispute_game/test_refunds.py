# SPDX-License-Identifier: Apache-2.0
"""What a conviction refunds is what an honest challenger paid in gas at least, however its game went: measured, as if
each call were a transaction of its own, with its claim and its withdrawal.

A move is refunded by MOVE_GAS, and costs less. An opening counts as three moves: they pay for itself, and for all that
may follow but moves, at its dearest. So a game that ends at once by the asserter's clock is the worst case.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from benchmarks.dispute_synthetic import Size, Synthetic
from tests.disputes.tasks import single_task

from .metering import HONEST, Metered
from .runs import Runs, every_function
from .table import GAME_GAS, GWEI, MOVE_GAS, OPENING, Game, Job, Table, cost, minimum_collateral

STRAW = "liar"
# Calls that are moves of a challenger; a verdict's is refunded as none.
MOVES = ("show_nodes", "pick_node", "pick_step", "answer_nodes", "pick_leaf", "pick_segment")
# Larger than any that was run: more checkpoints, operations and elements.
LARGE = [
    Size(),
    Size(ops=65_535),
    Size(side=46_340),
    Size(steps=10**10),
    Size(steps=10**12, interval=10**6, ops=65_535, side=46_340),
    Size(steps=2**64 - 1, interval=2**32, ops=65_535, side=46_340),
]


@pytest.fixture
def metered(table: Table) -> Metered:
    """Whose buyer has nothing free, so that its refund is dear."""
    found = Metered(**{field.name: getattr(table, field.name) for field in fields(Table)})
    return found


def impoverish(table: Table) -> None:
    """Who has nothing is given something at a higher price."""
    buyer = table.people["buyer"]
    table.call("escrow", "withdraw", buyer, table.call("escrow", "balance_of", buyer, buyer), buyer)
    rival = table.people[HONEST]
    table.call("token", "transfer", rival, table.people["keeper"], table.holds(rival))


def second(table: Metered, job: Job, **changes: Any) -> Game:
    """A game after one of a straw man, to whom the bounty goes."""
    table.open(job, STRAW, **changes)
    bond = table.call("game", "bond_of", "keeper", job.id, job.terms["collateral"], job.highest)
    impoverish(table)
    # All that it has is the bond.
    table.call("token", "transfer", "keeper", table.people[HONEST], bond)
    table.gas, table.spent = 0, []
    return table.open(job, HONEST, **changes)


def end(table: Metered, game: Game) -> int:
    """From the verdict to the withdrawal, all by the honest challenger, and first. Returns what it got for its gas."""
    table.convict(game.job, HONEST)
    table.claim(game, HONEST)
    for other in table.games:
        if other.job is game.job and not other.over:
            table.claim(other)
    # So that the share must be fetched, which is paid by who needs it.
    left = table.holds(table.game.address) - game.bond
    table.withdraw(STRAW, min(left, table.balance(STRAW)))
    got = table.balance(HONEST) - game.bond
    table.withdraw(HONEST, table.balance(HONEST))
    return got


def play(table: Metered, game: Game) -> None:
    while not game.job.convicted:
        table.step(game)


def check(table: Metered, game: Game, got: int) -> None:
    paid = cost(table.gas, game.registered.origin.price)
    assert got >= paid, (table.gas, MOVE_GAS * game.moves, table.spent)
    for name, gas in table.spent:
        assert name not in MOVES or gas < MOVE_GAS, (name, gas)


@pytest.mark.parametrize("steps", [3, 64])
def test_an_opening_pays_for_what_follows(metered: Metered, steps: int) -> None:
    """With as many nodes as there may be it is dearest."""
    runs = Runs.of(single_task(steps, 1))
    game = second(metered, metered.job(runs=runs))
    metered.at(game.deadline)
    metered.time_out(game, HONEST)
    got = end(metered, game)
    check(metered, game, got)
    assert got == cost(MOVE_GAS * OPENING, GWEI)
    if steps == 64:
        # Not more than it has to be.
        assert metered.gas > MOVE_GAS * OPENING * 9 // 10, metered.gas


@pytest.mark.parametrize("number", range(len(every_function())))
def test_a_verdict_is_paid(metered: Metered, number: int) -> None:
    game = second(metered, metered.job(runs=every_function()[number]))
    play(metered, game)
    check(metered, game, end(metered, game))


def synthetic(table: Metered, size: Size, **changes: Any) -> tuple[Job, Synthetic]:
    both = Synthetic(size)
    return table.job(root=both.run_root, exact=both.terms, **changes), both


@pytest.mark.parametrize("size", LARGE, ids=str)
def test_large_games_are_paid(metered: Metered, size: Size) -> None:
    job, both = synthetic(metered, size)
    game = second(metered, job, player=both.challenger)
    game.asserter = both.asserter
    play(metered, game)
    check(metered, game, end(metered, game))


def test_at_the_least_collateral_beside_sixty_four_games(metered: Metered) -> None:
    """The equal share of each is a whole game's gas, as large as the one that is measured."""
    job, both = synthetic(metered, Size(), collateral=minimum_collateral())
    for _ in range(63):
        metered.open(job, STRAW, player=both.challenger)
    game = second(metered, job, player=both.challenger)
    game.asserter = both.asserter
    play(metered, game)
    got = end(metered, game)
    check(metered, game, got)
    assert got == minimum_collateral() * 15 // 100 // 65
    assert metered.gas <= GAME_GAS
