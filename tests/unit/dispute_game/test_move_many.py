# SPDX-License-Identifier: Apache-2.0
"""DisputeGame.move_many: several calls as the caller's own, all or none."""

from __future__ import annotations

import pytest

from gpubond.disputes import rules
from gpubond.disputes.calldata import call

from .table import CONVICTED, Game, Job, Reverted, Table


def show(table: Table, game: Game) -> bytes:
    function, arguments = call(game.registered, game.position, game.next)
    return table.call_data(function, *arguments)


def test_verdict_and_conviction_at_once(table: Table, game: Game) -> None:
    table.at(game.deadline)
    moves = [
        table.call_data("time_out", *game.shown),
        table.call_data("convict", game.job.terms, game.job.commitment),
        table.call_data("claim", *game.shown),
    ]
    table.call("game", "move_many", "thief", moves)
    assert table.status(game.job) == CONVICTED
    game.over, game.job.convicted, game.job.told, game.job.refunded, game.job.open = True, True, True, 1, 0
    game.job.share = game.job.paid = game.job.terms["collateral"] * 15 // 100
    table.balances[table.people["rival"]] = game.bond + game.job.share


def test_moves_of_several_games(table: Table, job: Job) -> None:
    games = [table.open(job, name) for name in ("rival", "friend", "liar")]
    table.call("game", "move_many", "operator", [show(table, game) for game in games])
    for game in games:
        after = game.registered.clock + (game.registered.clock >> 104 & 2**32 - 1)
        game.registered = game.registered._replace(clock=after)
        game.position = rules.apply(game.position, game.next)  # type: ignore[assignment]
        table.check_position(game)


def test_all_or_none(table: Table, job: Job) -> None:
    games = [table.open(job, name) for name in ("rival", "friend")]
    good = show(table, games[0])
    with pytest.raises(Reverted, match="game: not this position"):
        table.call("game", "move_many", "operator", [good, good])
    assert table.stored(games[0]) == games[0].place.hash()


def test_as_the_caller(table: Table, game: Game) -> None:
    with pytest.raises(Reverted, match="game: not the provider"):
        table.call("game", "move_many", "rival", [show(table, game)])


def test_itself(table: Table, game: Game) -> None:
    table.at(game.deadline)
    inner = table.call_data("move_many", [table.call_data("time_out", *game.shown)])
    table.call("game", "move_many", "thief", [inner])
    game.job.convicted = True


def test_no_other_contracts_functions(table: Table, game: Game) -> None:
    transfer = table.token.functions["transfer"].call_data(table.people["thief"], game.bond)
    with pytest.raises(Reverted):
        table.call("game", "move_many", "thief", [transfer])
