# SPDX-License-Identifier: Apache-2.0
"""Whole games between an asserter and a challenger, by the rules in Python."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

from gpubond.disputes import rules
from gpubond.disputes.asserter import Asserter
from gpubond.disputes.challenger import Challenger
from gpubond.disputes.execution import Execution
from gpubond.disputes.levels import Side
from gpubond.disputes.moves import Move
from gpubond.disputes.position import Position, Verdict
from gpubond.disputes.showing import NothingWrong
from gpubond.disputes.terms import Terms
from gpubond.exact.engine import Array, Prepared
from gpubond.exact.engines import best
from gpubond.exact.refusal import Refused
from gpubond.exact.runner import Task

ANSWER_SECONDS = 60
# No game of a test is longer.
MOST_MOVES = 200

Apply = Callable[[Position, Move], Position | Verdict]


class Player(Protocol):
    """An asserter or a challenger, honest or not."""

    def move(self, position: Position) -> Move: ...


class Opens(Player, Protocol):
    """A challenger."""

    def opening(self) -> tuple[bytes, ...]: ...


@dataclass
class Game:
    """What was played. ending: `judged`, or who could not move, `asserter` or `challenger`: its clock ran out."""

    convicted: bool = False
    ending: str = ""
    moves: list[Move] = field(default_factory=list)
    positions: list[Position] = field(default_factory=list)

    @property
    def levels(self) -> list[str]:
        """Those that were reached, in order."""
        return list(dict.fromkeys(position.level.value for position in self.positions))


def play(position: Position, asserter: Player, challenger: Player, apply: Apply = rules.apply) -> Game:
    """To the end. A player whose move is refused, or that has none, loses by its clock. apply: makes a move."""
    game = Game(positions=[position])
    for _ in range(MOST_MOVES):
        turn = position.turn
        try:
            move = (asserter if turn is Side.ASSERTER else challenger).move(position)
            after = apply(position, move)
        except (Refused, NothingWrong):
            game.convicted, game.ending = turn is Side.ASSERTER, turn.value
            return game
        game.moves.append(move)
        if isinstance(after, Verdict):
            game.convicted, game.ending = after.convicted, "judged"
            return game
        position = after
        game.positions.append(position)
    raise AssertionError(f"no end after {MOST_MOVES} moves")


@dataclass(frozen=True)
class Honest:
    """Both players of a run that was computed right."""

    task: Task
    prepared: Prepared
    execution: Execution
    terms: Terms
    asserter: Asserter
    challenger: Challenger

    @cached_property
    def states(self) -> list[Sequence[Array]]:
        """Before each step."""
        return [self.task.initial] + [self.execution.state(step) for step in range(1, self.task.steps)]

    @classmethod
    def of(cls, task: Task, engine: str = "numpy") -> Honest:
        prepared = best(kind=engine).prepare(task.program)
        execution = Execution(prepared, task)
        terms = Terms(execution.statement, ANSWER_SECONDS)
        return cls(task, prepared, execution, terms, Asserter(execution, terms), Challenger(execution, terms))

    def against(self, liar: Player, run_root: bytes) -> Game:
        """The honest challenger plays an asserter that may lie."""
        return play(rules.begin(self.terms, run_root, self.challenger.opening()), liar, self.challenger)

    def accused_by(self, liar: Opens) -> Game:
        """The honest asserter plays a challenger that may lie."""
        opening = rules.begin(self.terms, self.execution.run_root, liar.opening())
        return play(opening, self.asserter, liar)
