# SPDX-License-Identifier: Apache-2.0
"""DisputeGame.move_many: several calls as the caller's own, all or none."""

from __future__ import annotations

import pytest
from eth_abi.abi import encode

from gpubond.disputes.calldata import call
from gpubond.disputes.structs import Registered

from .table import CONVICTED, Game, Job, Reverted, Table


def data(table: Table, name: str, *args: object) -> bytes:
    found = table.game.functions[name]
    plain = [tuple(value.values()) if isinstance(value, dict) else value for value in args]
    return found.selector + encode(found.inputs, plain)


def show(table: Table, game: Game) -> bytes:
    function, arguments = call(game.registered, game.position, table.honest.asserter.show(game.position))
    return data(table, function, *arguments)


def test_verdict_and_conviction_at_once(table: Table, game: Game) -> None:
    table.at(game.deadline)
    moves = [
        data(table, "time_out", *game.shown),
        data(table, "convict", game.job.terms, game.job.commitment),
        data(table, "claim", *game.shown),
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
        game.registered = Registered(*game.registered)._replace(clock=after)
        from gpubond.disputes import rules

        game.position = rules.apply(game.position, table.honest.asserter.show(game.position))  # type: ignore[assignment]
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
    inner = data(table, "move_many", [data(table, "time_out", *game.shown)])
    table.call("game", "move_many", "thief", [inner])
    game.job.convicted = True


def test_no_other_contracts_functions(table: Table, game: Game) -> None:
    for name, args in (("transfer", (table.people["thief"], game.bond)),):
        found = table.token.functions[name]
        with pytest.raises(Reverted):
            table.call("game", "move_many", "thief", [found.selector + encode(found.inputs, args)])
