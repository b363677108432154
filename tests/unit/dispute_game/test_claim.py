# SPDX-License-Identifier: Apache-2.0
"""DisputeGame.claim: bonds, refunds and the bounty of a conviction."""

from __future__ import annotations

import pytest

from .table import COLLATERAL, GWEI, MOVE_GAS, OPENING, OVER, Game, Job, Table, cost, minimum_collateral

SHARE = COLLATERAL * 15 // 100


def convicted(table: Table, *games: Game) -> Job:
    """The asserter is late in the first of these."""
    first = games[0]
    table.at(max(game.deadline for game in games))
    table.time_out(first)
    table.convict(first.job)
    return first.job


def test_one_game_takes_the_whole_share(table: Table, game: Game) -> None:
    convicted(table, game)
    table.claim(game)
    assert table.balance("rival") == game.bond + SHARE
    assert table.stored(game) == OVER


def test_twice(table: Table, game: Game) -> None:
    convicted(table, game)
    table.claim(game)
    table.refused("game: not this position", "claim", "rival", *game.shown)


def test_before_the_conviction(table: Table, game: Game) -> None:
    table.refused("game: job is not convicted", "claim", "rival", *game.shown)


def test_the_earliest_gets_the_rest_whoever_has_won(table: Table, job: Job) -> None:
    first, second = table.open(job, "rival"), table.open(job, "liar")
    table.step(first)
    table.at(second.deadline)
    table.time_out(second)
    table.convict(job)
    table.claim(second)
    refund = cost(MOVE_GAS * OPENING, GWEI)
    assert table.balance("liar") == second.bond + refund
    table.claim(first)
    assert table.balance("rival") == first.bond + SHARE - refund


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0), (1, 0, 2)])
def test_in_each_order(table: Table, job: Job, order: tuple[int, ...]) -> None:
    games = [table.open(job, name) for name in ("rival", "friend", "liar")]
    convicted(table, *games)
    for at in order:
        table.claim(games[at])
    refund = cost(MOVE_GAS * OPENING, GWEI)
    assert table.balance("friend") == games[1].bond + refund
    assert table.balance("rival") == games[0].bond + SHARE - 2 * refund


def test_a_lost_game_is_not_the_earliest(table: Table, job: Job) -> None:
    first, second = table.open(job, "liar"), table.open(job, "rival")
    table.step(first)
    table.at(max(first.deadline, second.deadline))
    table.time_out(first)
    table.time_out(second)
    table.convict(job)
    table.refused("game: not this position", "claim", "liar", *first.shown)
    table.claim(second)
    assert table.balance("rival") == second.bond + SHARE
    assert table.balance("liar") == 0


def test_refunds_are_at_most_the_equal_share(table: Table) -> None:
    job = table.job(collateral=minimum_collateral())
    games = [table.open(job, "liar") for _ in range(400)]
    convicted(table, *games)
    table.claim(games[0])
    share = minimum_collateral() * 1_500 // 10_000
    assert table.balance("liar") == games[0].bond + share // 400
    assert share // 400 < cost(MOVE_GAS * OPENING, GWEI)


def test_moves_are_refunded(table: Table, job: Job) -> None:
    first, second = table.open(job, "friend"), table.open(job, "rival")
    for _ in range(2):
        table.step(second)
    table.at(max(first.deadline, second.deadline))
    table.time_out(first)
    table.convict(job)
    table.claim(second)
    assert table.balance("rival") == second.bond + cost(MOVE_GAS * (OPENING + 1), GWEI)


def test_sixty_four_games_of_the_liar(table: Table) -> None:
    """Whoever sweeps them gets its bounty, and the liar its constant at most."""
    job = table.job(collateral=minimum_collateral())
    honest = table.open(job, "rival")
    games = [table.open(job, "liar") for _ in range(64)]
    convicted(table, games[-1], honest)
    paid = sum(game.bond for game in games)
    for game in (honest, *games):
        table.claim(game, "rival")
    share = minimum_collateral() * 1_500 // 10_000
    assert table.balance("liar") - paid <= 64 * cost(MOVE_GAS * OPENING, GWEI)
    assert table.balance("rival") - honest.bond >= share - 64 * cost(MOVE_GAS * OPENING, GWEI)


def test_by_anyone_for_its_challenger(table: Table, game: Game) -> None:
    convicted(table, game)
    table.claim(game, "thief")
    assert table.balance("thief") == 0
    assert table.balance("rival") == game.bond + SHARE
