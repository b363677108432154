# SPDX-License-Identifier: Apache-2.0
"""Who may make which move. What the moves do is tested with whole games in tests/disputes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gpubond.disputes.calldata import call
from gpubond.disputes.moves import PickNode, PickOperation, ShowNodes
from tests.disputes.play import Honest
from tests.disputes.tasks import single_task, summing_task
from tests.disputes.test_soundness import every_pick

from .table import Game, Reverted, Table


def refused(table: Table, game: Game, reason: str, sender: str) -> None:
    before = table.stored(game)
    with pytest.raises(Reverted, match=reason):
        table.move(game, table.honest.asserter.show(game.position), sender)
    assert table.stored(game) == before


def test_a_root_bound_to_nothing_is_the_providers(table: Table, game: Game) -> None:
    for stranger in ("rival", "thief", "buyer", "keeper"):
        refused(table, game, "game: not the provider", stranger)
    table.move(game, table.honest.asserter.show(game.position), "owner")


def test_a_former_operator(table: Table, game: Game) -> None:
    """A stolen key is worth nothing from the block in which the owner has named another."""
    table.call("staking", "set_operator", "owner", table.people["friend"])
    refused(table, game, "game: not the provider", "operator")
    table.move(game, table.honest.asserter.show(game.position), "friend")


def test_what_hashes_leave_no_choice_about_anyone_shows(table: Table) -> None:
    """The tree of checkpoints: a provider whose keys are out of reach is helped by whoever has its run."""
    other = replace(table, honest=Honest.of(single_task(5, 1)))
    game = other.open(other.job(other.honest.execution.run_root))
    other.move(game, other.honest.asserter.show(game.position), "thief")


def test_values_are_the_providers(table: Table) -> None:
    other = replace(table, honest=Honest.of(summing_task(1050)))
    game = other.open(other.job(other.honest.execution.run_root))
    while not game.over:
        if game.side == 0:
            move = other.honest.asserter.show(game.position)
            if not isinstance(move, ShowNodes) and type(move).__name__ != "ShowLeaf":
                refused(other, game, "game: not the provider", "thief")
            other.move(game, move)
        else:
            picks = list(every_pick(other.honest, game.position))
            picked = next((pick for pick in picks if isinstance(pick, PickOperation)), picks[-1])
            function, arguments = call(game.registered, game.position, picked)
            # Only the challenger picks.
            for stranger in ("operator", "owner", "thief"):
                other.refused("game: not the challenger", function, stranger, *arguments)
            other.move(game, picked)


def test_a_move_answers_one_position(table: Table, game: Game) -> None:
    """As after a reorganisation that put another show before the pick."""
    table.show(game)
    function, arguments = call(game.registered, game.position, next(iter(every_pick(table.honest, game.position))))
    game_id, place, *rest = arguments
    table.refused("game: not this position", function, "rival", game_id, place._replace(node=b"\x05" * 32), *rest)
    table.refused(
        "game: not this position", function, "rival", game_id, place._replace(clock=place.clock + (1 << 64)), *rest
    )


def test_out_of_turn(table: Table, game: Game) -> None:
    table.refused("game: not this move", "pick_node", "rival", game.id, game.place, 0)
    shown = call(game.registered, game.position, table.honest.asserter.show(game.position))
    table.show(game)
    _, _, *rest = shown.arguments
    table.refused("game: not this move", "show_nodes", "operator", game.id, game.place, *rest)


@pytest.mark.parametrize("index", [4, 5, 63, 65, 2**7, 2**64, 2**256 - 1])
def test_a_node_that_is_not_there(table: Table, index: int) -> None:
    other = replace(table, honest=Honest.of(single_task(5, 5)))
    game = other.open(other.job(other.honest.execution.run_root))
    other.show(game)
    other.refused("game: no such node", "pick_node", "rival", game.id, game.place, index)


@pytest.mark.parametrize("index", [0, 3, None])
def test_a_node_that_is_there(table: Table, index: int | None) -> None:
    other = replace(table, honest=Honest.of(single_task(5, 5)))
    game = other.open(other.job(other.honest.execution.run_root))
    other.show(game)
    other.move(game, PickNode(index))
    other.show(game)
