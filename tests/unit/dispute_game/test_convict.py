# SPDX-License-Identifier: Apache-2.0
"""DisputeGame.convict: brings a verdict to the escrow, once, and by anyone."""

from __future__ import annotations

import pytest

from .table import COLLATERAL, CONVICTED, DISPUTED, Game, Job, Reverted, Table


@pytest.fixture
def won(table: Table, game: Game) -> Game:
    table.at(game.deadline)
    table.time_out(game)
    return game


def test_by_anyone(table: Table, won: Game) -> None:
    before = table.call("escrow", "balance_of", "keeper", table.people["buyer"])
    table.convict(won.job, "thief")
    assert table.status(won.job) == CONVICTED
    after = table.call("escrow", "balance_of", "keeper", table.people["buyer"])
    assert after - before == 2 * won.job.highest
    assert table.call("escrow", "balance_of", "keeper", table.game.address) == COLLATERAL * 15 // 100


def test_twice(table: Table, won: Game) -> None:
    table.convict(won.job)
    table.refused("game: nothing to tell", "convict", "keeper", won.job.terms, won.job.commitment)


def test_without_a_verdict(table: Table, game: Game) -> None:
    table.refused("game: nothing to tell", "convict", "keeper", game.job.terms, game.job.commitment)


def test_after_a_loss(table: Table, right: Job) -> None:
    table.lose(table.open(right))
    table.refused("game: nothing to tell", "convict", "keeper", right.terms, right.commitment)


@pytest.mark.parametrize("field", ["buyer", "provider", "collateral"])
def test_other_terms(table: Table, won: Game, field: str) -> None:
    value = table.people["thief"] if field != "collateral" else 10 * COLLATERAL
    table.refused("game: nothing to tell", "convict", "keeper", won.job.terms | {field: value}, won.job.commitment)


def test_another_commitment(table: Table, won: Game) -> None:
    table.refused("escrow: not what was committed", "convict", "keeper", won.job.terms, won.job.commitment | {"pay": 0})
    table.convict(won.job)


def test_nothing_happens_between_verdict_and_conviction(table: Table, won: Game) -> None:
    """Not even at the escrow's own time-out less a second: the job is neither released nor settled nor played on."""
    job = won.job
    for moment in (table.now, job.window_end, job.window_end + 90 * 86_400 - 1):
        table.at(max(table.now, moment))
        assert table.status(job) == DISPUTED
        table.refused("game: job is convicted", "release", "keeper", job.terms)
        table.refused("game: conviction is not told", "claim", "keeper", *won.shown)
        table.refused("game: job is convicted", "time_out", "keeper", *won.shown)
        for settler in ("buyer", "owner"):
            with pytest.raises(Reverted, match="job is disputed"):
                table.call("escrow", "settle", settler, job.terms, job.commitment)
    table.convict(job)


def test_other_games_cannot_undo_it(table: Table, game: Game) -> None:
    other = table.open(game.job, "liar")
    table.step(other)
    table.at(max(game.deadline, other.deadline))
    table.time_out(game)
    table.refused("game: job is convicted", "time_out", "keeper", *other.shown)
    table.convict(game.job)
    table.refused("game: job is convicted", "time_out", "keeper", *other.shown)
    table.refused("game: job is convicted", "release", "keeper", game.job.terms)


def test_games_on_another_job_go_on(table: Table, won: Game) -> None:
    other = table.open(table.job())
    table.convict(won.job)
    table.step(other)
    assert not other.job.convicted
