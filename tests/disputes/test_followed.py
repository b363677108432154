# SPDX-License-Identifier: Apache-2.0
"""A game is followed from its events: they give each of its positions, and nothing else is needed."""

from __future__ import annotations

import boa
import pytest

from gpubond.disputes.followed import due, follow
from gpubond.disputes.moves import Move
from gpubond.disputes.position import Position, Verdict
from gpubond.errors import BadSettings
from gpubond.exact.program import Opcode
from gpubond.exact.runner import Task
from tests.disputes.contracts import ChainGame, World
from tests.disputes.liar import FalseAccuser, Liar, Lie
from tests.disputes.play import Game, Honest, Player, play
from tests.disputes.tasks import every_level_task, single_task, summing_task, wide_task
from tests.disputes.test_soundness import told

CASES = {
    "every level": (every_level_task(), Lie(step=3, op=12, element=0, term=700)),
    "many leaves": (every_level_task(), Lie(step=3, op=10, element=1000)),
    "state": (every_level_task(), Lie(step=3, tensor=0, element=5)),
    "one tensor": (single_task(), Lie(step=0, tensor=0)),
    "no levels above": (single_task(), Lie(step=0, op=0)),
    "first interval alone": (single_task(3, 5, Opcode.MUL), Lie(step=1, op=0)),
    "several shows": (wide_task(66, 66, 80), Lie(step=40, op=131, element=1)),
    "segments": (summing_task(70 * 512), Lie(step=0, op=0, element=0, term=35_000)),
}


@pytest.mark.parametrize("by", ["asserter", "challenger"])
@pytest.mark.parametrize("name", CASES)
def test_events_give_each_position(world: World, name: str, by: str) -> None:
    """Whichever side lies."""
    task, lie = CASES[name]
    honest = Honest.of(task)
    wrong = told(honest, lie)
    assert wrong is not None
    execution, root = wrong
    with boa.env.anchor():
        if by == "asserter":
            game = world.open(honest.terms, root, honest.challenger.opening())
            played = followed(game, task, Liar(execution), honest.challenger)
        else:
            accuser = FalseAccuser(execution)
            game = world.open(honest.terms, honest.execution.run_root, accuser.opening())
            played = followed(game, task, honest.asserter, accuser)
    assert (played.convicted, played.ending) == (by == "asserter", "judged")
    assert len(game.events) == len(played.positions)


def followed(game: ChainGame, task: Task, asserter: Player, challenger: Player) -> Game:
    """Plays a game; after each move its events are those of the position, which the contract has as well."""

    def check() -> None:
        found = follow(game.events, game.position.terms, task.program)
        assert found.position == game.position
        assert found.hash == game.stored()
        assert found.deadline == due(game.events)

    def move(_: Position, move: Move) -> Position | Verdict:
        after = game.move(move)
        if isinstance(after, Position):
            check()
        return after

    check()
    return play(game.position, asserter, challenger, move)


def test_events_of_something_else_are_refused(world: World) -> None:
    task, lie = CASES["every level"]
    honest = Honest.of(task)
    wrong = told(honest, lie)
    assert wrong is not None
    with boa.env.anchor():
        game = world.open(honest.terms, wrong[1], honest.challenger.opening())
        game.play(Liar(wrong[0]), honest.challenger)
    events = game.events
    for strange in ([], events[1:], events[:1] + events[2:], [*events[:3], events[4]]):
        with pytest.raises(BadSettings, match="cannot be followed"):
            follow(strange, honest.terms, task.program)
    other = Honest.of(every_level_task(steps=7))
    with pytest.raises(BadSettings, match="cannot be followed"):
        follow(events, other.terms, task.program)
