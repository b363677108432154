# SPDX-License-Identifier: Apache-2.0
"""Rescue attempts by exhaustion: opening against oneself first, losing on purpose, copying, convicting oneself,
flooding; claims in each order. Recovered is at most the constant, and the honest challenger's net is not negative."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from random import Random

import boa
import pytest

from tests.disputes.contracts import COLLATERAL, GWEI, Laid, World
from tests.disputes.rescues import (
    DEAR,
    Convicted,
    Fate,
    Plan,
    after_the_first_checkpoint,
    check,
    convicted,
    every_order,
    plans,
)
from tests.exact.conftest import Counted
from tests.exact_contracts.operations import drawing
from tests.unit.dispute_game.metering import Metered
from tests.unit.dispute_game.table import minimum_collateral

SEED = 20261129
FLOOD = 64


@pytest.fixture
def table(world: World) -> Metered:
    laid = {field.name: getattr(world, field.name) for field in fields(Laid)}
    return Metered(**laid, runs=after_the_first_checkpoint())


def exhausted(table: Metered, some: Iterable[Plan]) -> int:
    """Plays each plan with claims in each order."""
    orders = 0
    for plan in some:
        table.gas = 0
        with boa.env.anchor():
            orders += every_order(table, convicted(table, plan))
    return orders


def test_every_order_of_a_few_games(table: Metered) -> None:
    """At the least collateral, where the challengers' share is as small as it gets; of three games some plans."""
    least = minimum_collateral()
    some = [*plans(1, least), *plans(2, least), *list(plans(3, least))[::24]]
    assert exhausted(table, some) > len(some) > 12


@pytest.mark.extended
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    ("most", "collateral", "prices"),
    [
        (4, minimum_collateral(), (GWEI, GWEI)),
        (3, minimum_collateral(), (DEAR, GWEI)),
        (3, COLLATERAL, (GWEI, DEAR)),
        (3, COLLATERAL, (DEAR, DEAR)),
    ],
    ids=["least collateral", "dear straw men", "dear for the honest one", "dear for all"],
)
def test_every_order(table: Metered, counted: Counted, most: int, collateral: int, prices: tuple[int, int]) -> None:
    some = (plan for games in range(1, most + 1) for plan in plans(games, collateral, prices))
    counted(exhausted(table, some), 0)


@pytest.mark.extended
@pytest.mark.timeout(3600)
def test_orders_of_five_games(table: Metered, counted: Counted) -> None:
    """So many that a part of them is drawn."""
    some = drawing(SEED).sample(list(plans(5, minimum_collateral())), 120)
    counted(exhausted(table, some), SEED)


def flooded(table: Metered, plan: Plan, chance: Random) -> None:
    """Claims in a random order."""
    table.gas = 0
    with boa.env.anchor():
        end: Convicted = convicted(table, plan)
        for game in chance.sample(end.kept, len(end.kept)):
            table.call("game", "claim", "rival" if game is end.honest else "keeper", *game.shown)
        check(table, end)


def flood(place: int, mixed: bool, chance: Random) -> Plan:
    """The honest game at a place among 64 others; some of these are lost if it is mixed."""
    fates = chance.choices(list(Fate)[1:], k=FLOOD) if mixed else [Fate.KEPT] * FLOOD
    order = (*fates[:place], Fate.HONEST, *fates[place:])
    ender = chance.choice([at for at, fate in enumerate(order) if fate in (Fate.HONEST, Fate.KEPT)])
    return Plan(order, ender, ender == place, minimum_collateral())


@pytest.mark.extended
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("mixed", [False, True], ids=["kept", "mixed"])
def test_a_flood_in_many_places(table: Metered, counted: Counted, mixed: bool) -> None:
    chance = drawing(SEED)
    places = [0, 1, *range(8, FLOOD, 8), FLOOD - 1, FLOOD]
    for place in places:
        flooded(table, flood(place, mixed, chance), chance)
    counted(len(places), SEED)
