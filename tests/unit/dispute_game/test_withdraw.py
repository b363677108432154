# SPDX-License-Identifier: Apache-2.0
"""DisputeGame.withdraw: the only way out for tokens."""

from __future__ import annotations

import pytest

from .table import COLLATERAL, Game, Job, Table


@pytest.fixture
def claimed(table: Table, game: Game) -> Game:
    table.at(game.deadline)
    table.time_out(game)
    table.convict(game.job)
    table.claim(game)
    return game


def test_bond_and_bounty(table: Table, claimed: Game) -> None:
    """The share is fetched from the escrow when it is needed."""
    whole = claimed.bond + COLLATERAL * 15 // 100
    table.withdraw("rival", claimed.bond)
    assert table.call("escrow", "balance_of", "keeper", table.game.address) == COLLATERAL * 15 // 100
    table.withdraw("rival", whole - claimed.bond, "friend")
    assert table.call("escrow", "balance_of", "keeper", table.game.address) == 0


def test_more_than_there_is(table: Table, claimed: Game) -> None:
    table.refused("game: not enough balance", "withdraw", "rival", table.balance("rival") + 1, table.people["rival"])
    table.refused("game: not enough balance", "withdraw", "thief", 1, table.people["thief"])


def test_nothing(table: Table, claimed: Game) -> None:
    table.refused("game: amount is zero", "withdraw", "rival", 0, table.people["rival"])


def test_to_nobody(table: Table, claimed: Game) -> None:
    for receiver in ("0x" + "00" * 20, table.game.address):
        table.refused("game: no such receiver", "withdraw", "rival", 1, receiver)


def test_what_burned_stays(table: Table, right: Job) -> None:
    game = table.open(right)
    table.lose(game)
    burned = table.call("game", "burned", "keeper")
    assert burned > 0
    table.withdraw("owner", table.balance("owner"))
    assert table.holds(table.game.address) == burned


def test_bonds_of_others_are_not_touched(table: Table, claimed: Game) -> None:
    other = table.open(table.job(), "friend")
    table.withdraw("rival", table.balance("rival"))
    assert table.holds(table.game.address) >= other.bond
