# SPDX-License-Identifier: Apache-2.0
"""Whole games between an asserter and a challenger, by the rules in Python."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from gpubond.disputes import rules
from gpubond.disputes.challenger import Challenger, NothingWrong
from gpubond.disputes.moves import Move
from gpubond.disputes.position import Position, Side, Verdict
from gpubond.disputes.terms import Terms
from gpubond.exact.refusal import Refused

ANSWER_SECONDS = 60
# No game of a test is longer.
MOST_MOVES = 200


class Shows(Protocol):
    """An asserter, honest or not."""

    def show(self, position: Position) -> Move: ...


class Picks(Protocol):
    """A challenger, honest or not."""

    def pick(self, position: Position) -> Move: ...


@dataclass
class Game:
    """What was played. ending: `judged`, or who could not move, `asserter` or `challenger`, so that its clock ran out."""

    convicted: bool
    ending: str
    moves: list[Move] = field(default_factory=list)
    positions: list[Position] = field(default_factory=list)

    @property
    def levels(self) -> list[str]:
        return [position.level.value for position in self.positions]


def play(
    terms: Terms,
    run_root: bytes,
    asserter: Shows,
    challenger: Picks,
    watch: Callable[[Position, Move, Position | Verdict], object] = lambda before, move, after: None,
) -> Game:
    """To the end. A player whose move is refused, or that has none, loses by its clock."""
    position = rules.begin(terms, run_root)
    game = Game(False, "", positions=[position])
    for _ in range(MOST_MOVES):
        turn = position.turn
        try:
            move = asserter.show(position) if turn is Side.ASSERTER else challenger.pick(position)
            after = rules.apply(position, move)
        except (Refused, NothingWrong):
            game.convicted, game.ending = turn is Side.ASSERTER, turn.value
            return game
        game.moves.append(move)
        watch(position, move, after)
        if isinstance(after, Verdict):
            game.convicted, game.ending = after.convicted, "judged"
            return game
        position = after
        game.positions.append(position)
    raise AssertionError(f"no end after {MOST_MOVES} moves")


def honest(execution: object, terms: Terms) -> Challenger:
    """A challenger that computed right."""
    from gpubond.disputes.execution import Execution

    assert isinstance(execution, Execution)
    return Challenger(execution, terms)
