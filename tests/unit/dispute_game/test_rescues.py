# SPDX-License-Identifier: Apache-2.0
"""A caught provider tries to save its collateral: it plays against itself first, copies, convicts itself, floods.

What it gets back is at most the constants, and the honest challenger is not out of pocket in any order.
"""

from __future__ import annotations

import itertools

import pytest

from .table import COLLATERAL, GWEI, Game, Job, Table, cost, minimum_collateral

# Gas that an honest challenger pays at most for a game that ends by the asserter's clock right away, in thousands:
# open 180, time_out 41, convict 128, claim 111, withdraw 92 (test_refunds.py).
SHORT = 552_000


def end(table: Table, first: Game, *others: Game) -> None:
    """The asserter is late in the first of these, which convicts."""
    table.at(max(game.deadline for game in (first, *others)))
    table.time_out(first)
    table.convict(first.job)


def net(table: Table, name: str, *games: Game) -> int:
    """What an account got beyond its bonds."""
    return table.balance(name) - sum(game.bond for game in games)


@pytest.mark.parametrize("collateral", [COLLATERAL, minimum_collateral()])
@pytest.mark.parametrize("order", list(itertools.permutations(("liar", "rival", "friend"))))
@pytest.mark.parametrize("winner", range(3))
def test_against_itself(table: Table, collateral: int, order: tuple[str, ...], winner: int) -> None:
    """The liar opens first, second or last, and convicts itself or is convicted."""
    job = table.job(collateral=collateral)
    games = {name: table.open(job, name) for name in order}
    end(table, games[order[winner]], *games.values())
    for game in games.values():
        table.claim(game)
    share = collateral * 15 // 100
    assert net(table, "liar", games["liar"]) <= share
    for name in ("rival", "friend"):
        # Bond back, and the gas of what it did, at the price that the bond reckoned with.
        assert net(table, name, games[name]) >= cost(SHORT, GWEI)
    burned = table.call("staking", "burned_by", "keeper", table.escrow.address)
    assert burned >= collateral // 2


@pytest.mark.parametrize("before", [True, False])
def test_sixty_four_games(table: Table, before: bool) -> None:
    """At the least collateral a flood before or after the honest game leaves it its gas."""
    job = table.job(collateral=minimum_collateral())
    flood = [table.open(job, "liar") for _ in range(32)] if before else []
    honest = table.open(job, "rival")
    flood += [table.open(job, "liar") for _ in range(64 - len(flood))]
    end(table, flood[-1], *flood, honest)
    for game in [*flood, honest]:
        table.claim(game)
    assert net(table, "rival", honest) >= cost(SHORT, GWEI)
    assert net(table, "liar", *flood) <= minimum_collateral() * 15 // 100


def test_losing_on_purpose(table: Table, job: Job) -> None:
    """Its own games that it loses cost bonds, and change nothing for the honest one."""
    honest = table.open(job, "rival")
    own = [table.open(job, "liar") for _ in range(3)]
    for game in own:
        table.step(game)
    table.at(own[-1].deadline)
    lost = 0
    for game in own:
        table.time_out(game)
        lost += game.bond
    table.refused("game: a game is open", "release", "owner", job.terms)
    end(table, honest)
    table.claim(honest)
    assert net(table, "rival", honest) == COLLATERAL * 15 // 100
    # A part of each burned, though provider and challenger are one.
    assert table.balance("owner") < lost


def test_a_copy_that_convicts_first(table: Table, job: Job) -> None:
    """Whoever repeats the honest challenger's moves and is mined first takes neither its refund nor its bounty."""
    honest, copy = table.open(job, "rival"), table.open(job, "thief")
    end(table, copy, honest)
    table.claim(copy)
    table.claim(honest)
    assert net(table, "rival", honest) > net(table, "thief", copy)
    assert net(table, "rival", honest) + net(table, "thief", copy) == COLLATERAL * 15 // 100
