# SPDX-License-Identifier: Apache-2.0
"""DisputeGame.release: once every game was lost, by anyone."""

from __future__ import annotations

from .table import COMMITTED, SETTLED, Game, Job, Table


def test_by_anyone(table: Table, right: Job) -> None:
    table.lose(table.open(right))
    table.release(right, "thief")
    assert table.status(right) == COMMITTED


def test_then_it_settles_from_the_windows_end(table: Table, right: Job) -> None:
    table.lose(table.open(right))
    table.release(right)
    table.at(right.window_end)
    table.call("escrow", "settle", "keeper", right.terms, right.commitment)
    assert table.status(right) == SETTLED


def test_while_a_game_is_open(table: Table, right: Job) -> None:
    first, _ = table.open(right), table.open(right, "friend")
    table.refused("game: a game is open", "release", "owner", right.terms)
    table.lose(first)
    # A lost game decides nothing, and stops no other.
    table.refused("game: a game is open", "release", "owner", right.terms)


def test_without_a_game(table: Table, right: Job) -> None:
    table.refused("escrow: wrong state", "release", "keeper", right.terms)


def test_twice(table: Table, right: Job) -> None:
    table.lose(table.open(right))
    table.release(right)
    table.refused("escrow: wrong state", "release", "keeper", right.terms)


def test_a_convicted_job(table: Table, game: Game) -> None:
    table.at(game.deadline)
    table.time_out(game)
    table.refused("game: job is convicted", "release", "keeper", game.job.terms)
    table.convict(game.job)
    table.claim(game)
    # Not when all is paid either.
    table.refused("game: job is convicted", "release", "keeper", game.job.terms)


def test_a_job_of_another_arbiter(table: Table, right: Job) -> None:
    table.refused("escrow: wrong state", "release", "keeper", right.terms | {"arbiter": table.people["thief"]})
