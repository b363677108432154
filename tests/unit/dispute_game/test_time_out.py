# SPDX-License-Identifier: Apache-2.0
"""DisputeGame.time_out: who does not move in time loses, to the second."""

from __future__ import annotations

import pytest

from tests.disputes.tasks import single_task

from .runs import Runs
from .table import CLOCK, DISPUTED, INCREMENT, OVER, Game, Job, Reverted, Table, lost_shares


def first_deadline(table: Table, job: Job) -> int:
    return table.now + CLOCK + INCREMENT + job.exact.answer_seconds


def test_the_asserter_in_its_last_second(table: Table, game: Game) -> None:
    assert game.deadline == first_deadline(table, game.job)
    table.at(game.deadline - 1)
    table.refused("game: clock is not over", "time_out", "keeper", *game.shown)
    table.step(game)
    assert game.registered.clock & 2**32 - 1 == 1


def test_the_asserter_a_second_late(table: Table, game: Game) -> None:
    table.at(game.deadline)
    with pytest.raises(Reverted, match="game: too late"):
        table.step(game)
    table.time_out(game)
    assert game.job.convicted
    assert table.status(game.job) == DISPUTED


def test_the_challenger_in_its_last_second(table: Table, right: Job) -> None:
    game = table.open(right)
    table.step(game)
    table.at(game.deadline - 1)
    table.refused("game: clock is not over", "time_out", "keeper", *game.shown)
    table.lose(game)


def test_the_challenger_a_second_late(table: Table, game: Game) -> None:
    table.step(game)
    table.at(game.deadline)
    with pytest.raises(Reverted, match="game: too late"):
        table.step(game)
    table.time_out(game)
    assert not game.job.convicted
    paid, _ = lost_shares(game.bond, game.registered.origin.price)
    assert table.balance("owner") == paid
    table.release(game.job)


def test_each_side_has_its_own_clock(table: Table, game: Game) -> None:
    table.at(table.now + CLOCK)
    table.step(game)
    assert game.deadline == table.now + CLOCK + INCREMENT + game.job.exact.answer_seconds


def test_each_move_adds(table: Table, game: Game) -> None:
    step = INCREMENT + game.job.exact.answer_seconds
    table.at(table.now + step)
    table.step(game)
    assert game.registered.clock & 2**32 - 1 == CLOCK
    table.at(table.now + 1)


def test_twice(table: Table, game: Game) -> None:
    table.at(game.deadline)
    table.time_out(game)
    table.refused("game: job is convicted", "time_out", "keeper", *game.shown)


def test_a_lost_game_is_over(table: Table, game: Game) -> None:
    table.step(game)
    table.at(game.deadline)
    shown = game.shown
    table.time_out(game)
    assert table.stored(game) == OVER
    for name in ("time_out", "claim"):
        table.refused("game: not this position", name, "keeper", *shown)


def test_a_former_position(table: Table, game: Game) -> None:
    former = game.shown
    table.step(game)
    table.at(game.deadline)
    table.refused("game: not this position", "time_out", "keeper", *former)


def test_what_is_shown_must_be_what_is_hashed(table: Table, game: Game) -> None:
    table.at(game.deadline)
    id_, place, way, origin = game.shown
    for name in place._fields:
        value = getattr(place, name)
        other = (
            table.people["thief"]
            if isinstance(value, str)
            else (b"\x01" * 32 if isinstance(value, bytes) else value ^ 1)
        )
        table.refused(
            "game: not this position", "time_out", "keeper", id_, place._replace(**{name: other}), way, origin
        )
    for name in way._fields:
        value = getattr(way, name)
        other = b"\x01" * 32 if isinstance(value, bytes) else value ^ 1
        table.refused("game: not this way", "time_out", "keeper", id_, place, way._replace(**{name: other}), origin)
    for name in origin._fields:
        value = getattr(origin, name)
        other = b"\x01" * 32 if isinstance(value, bytes) else value ^ 1
        table.refused("game: not this origin", "time_out", "keeper", id_, place, way, origin._replace(**{name: other}))


def test_the_game_of_another(table: Table, game: Game) -> None:
    other = table.open(game.job, "friend")
    table.at(game.deadline)
    _, *rest = game.shown
    table.refused("game: not this position", "time_out", "keeper", other.id, *rest)


def test_an_unknown_game(table: Table, game: Game) -> None:
    table.at(game.deadline)
    _, *rest = game.shown
    table.refused("game: not this position", "time_out", "keeper", b"\x09" * 32, *rest)


def test_a_game_after_the_escrows_time_out(table: Table, game: Game) -> None:
    """Nobody looked for ninety days: the escrow has paid, and the bond comes back all the same."""
    job = game.job
    table.at(job.window_end + 90 * 86_400)
    table.call("escrow", "settle", "keeper", job.terms, job.commitment)
    table.time_out(game)
    table.refused("escrow: wrong state", "convict", "keeper", job.terms, job.commitment)
    table.claim(game)
    assert table.balance("rival") == game.bond


def test_a_lost_game_after_the_escrows_time_out(table: Table, game: Game) -> None:
    job = game.job
    table.step(game)
    table.at(job.window_end + 90 * 86_400)
    table.call("escrow", "settle", "keeper", job.terms, job.commitment)
    table.time_out(game)
    table.refused("escrow: wrong state", "release", "keeper", job.terms)


def test_it_is_over_before_the_escrow_stops_waiting(table: Table, game: Game) -> None:
    """Opened in the last second, played to the last second by both: the verdict still counts."""
    job = game.job
    table.at(job.window_end - 1)
    last = table.open(job, "friend")
    while not job.convicted:
        table.at(last.deadline - 1)
        table.step(last)
    assert table.now < job.window_end + 90 * 86_400 - 7 * 86_400
    table.convict(job)


def test_a_challenger_that_begins_and_falls_silent(table: Table) -> None:
    """Of a run of one step: nothing is asked of the provider, which is paid all the same."""
    runs = Runs.of(single_task(1, 1))
    right, wrong = table.job(is_right=True, runs=runs), table.job(runs=runs)
    for job in (right, wrong):
        game = table.open(job)
        assert game.side == 1 and game.deadline == first_deadline(table, job)
        table.at(game.deadline - 1)
        table.refused("game: clock is not over", "time_out", "keeper", *game.shown)
        table.at(game.deadline)
        with pytest.raises(Reverted, match="game: too late"):
            table.step(game)
        table.time_out(game)
        assert game.over and not job.convicted
        table.release(job)


def test_a_challenger_that_begins_in_its_last_second(table: Table) -> None:
    job = table.job(runs=Runs.of(single_task(1, 1)))
    game = table.open(job)
    table.at(game.deadline - 1)
    table.step(game)
    assert game.registered.clock >> 32 & 2**32 - 1 == 1
    while not job.convicted:
        table.step(game)
