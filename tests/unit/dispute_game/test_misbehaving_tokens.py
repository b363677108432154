# SPDX-License-Identifier: Apache-2.0
"""A token that takes fees, lies, blocks or calls back: no move and no verdict needs it."""

from __future__ import annotations

import pytest

from .table import COLLATERAL, CONVICTED, Game, Job, Reverted, Table


@pytest.fixture(scope="session")
def laid() -> Table:
    """Whose games the fixtures of the folder are here."""
    return Table.deploy("mocks/MisbehavingToken")


def test_a_fee_on_the_bond(table: Table, job: Job) -> None:
    table.call("token", "set_fee_bps", "keeper", 1)
    table.refused("game: token takes a fee", "open", "rival", *table.arguments(job))
    table.call("token", "set_fee_bps", "keeper", 0)
    table.open(job)


def test_false_instead_of_a_transfer(table: Table, job: Job) -> None:
    table.call("token", "set_returns_false", "keeper", True)
    table.refused("game: transfer failed", "open", "rival", *table.arguments(job))
    table.call("token", "set_returns_false", "keeper", False)
    table.open(job)


def test_a_blocked_challenger_plays_and_wins(table: Table, game: Game) -> None:
    """Everything but `open` and `withdraw` goes on with a token that does nothing at all any more."""
    table.call("token", "set_returns_false", "keeper", True)
    for account in (table.people["rival"], table.people["owner"], table.game.address, table.escrow.address):
        table.call("token", "set_blocked", "keeper", account, True)
    table.step(game)
    other = table.games[0]
    assert other is game
    table.at(game.deadline - 1)
    table.step(game)
    table.at(game.deadline)
    table.time_out(game)
    table.convict(game.job)
    assert table.status(game.job) == CONVICTED
    table.claim(game)
    assert table.balance("rival") == game.bond + COLLATERAL * 15 // 100
    table.refused("game: transfer failed", "withdraw", "rival", 1, table.people["rival"])
    table.call("token", "set_returns_false", "keeper", False)
    for account in (table.people["rival"], table.people["owner"], table.game.address, table.escrow.address):
        table.call("token", "set_blocked", "keeper", account, False)
    table.withdraw("rival", table.balance("rival"))


def test_a_blocked_provider_stops_no_loss(table: Table, game: Game) -> None:
    table.call("token", "set_blocked", "keeper", table.people["owner"], True)
    table.step(game)
    table.at(game.deadline)
    table.time_out(game)
    table.release(game.job)
    table.withdraw("owner", table.balance("owner"), "friend")


def test_a_blocked_account_blocks_nobody_else(table: Table, job: Job) -> None:
    first, second = table.open(job), table.open(job, "friend")
    table.at(second.deadline)
    table.time_out(first)
    table.convict(job)
    table.call("token", "set_blocked", "keeper", table.people["rival"], True)
    table.claim(first)
    table.claim(second)
    table.withdraw("friend", table.balance("friend"))
    with pytest.raises(Reverted):
        table.withdraw("rival", 1)
    table.withdraw("rival", 1, "keeper")


@pytest.mark.parametrize("name", ["open", "withdraw", "time_out", "claim", "convict", "release"])
def test_calling_back_in_a_transfer(table: Table, job: Job, name: str) -> None:
    """Of `open`: the bond is taken last, and nothing can be called meanwhile."""
    first = table.open(job)
    table.at(first.deadline)
    other = table.job()
    arguments = {
        "open": table.arguments(job),
        "withdraw": (1, table.people["thief"]),
        "time_out": first.shown,
        "claim": first.shown,
        "convict": (job.terms, job.commitment),
        "release": (job.terms,),
    }
    call_data = table.call_data(name, *arguments[name])
    table.call("token", "set_callback", "keeper", table.game.address, call_data)
    table.open(other, "friend")
    assert table.call("token", "callbacks", "keeper") == 1
    assert table.call("token", "callbacks_succeeded", "keeper") == 0


def test_calling_back_in_a_withdrawal(table: Table, game: Game) -> None:
    table.at(game.deadline)
    table.time_out(game)
    table.convict(game.job)
    table.claim(game)
    amount = table.balance("rival")
    again = table.call_data("withdraw", amount, table.people["thief"])
    many = table.call_data("move_many", [again])
    for call_data in (again, many):
        table.call("token", "set_callback", "keeper", table.game.address, call_data)
        table.withdraw("rival", amount // 4)
    assert table.call("token", "callbacks_succeeded", "keeper") == 0
    table.call("token", "set_callback", "keeper", "0x" + "00" * 20, b"")
