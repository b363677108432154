# SPDX-License-Identifier: Apache-2.0
"""A crowd of games against right runs: their provider makes one answer after the other, each in the answer seconds of
the terms, the time that one may take by itself. It has work without a pause, and must not be late in any game."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gpubond.disputes import rules
from gpubond.disputes.moves import Move
from gpubond.disputes.position import Position, Verdict
from gpubond.disputes.terms import Terms
from tests.disputes.play import Honest
from tests.disputes.tasks import every_level_task
from tests.disputes.test_soundness import every_pick

from .table import (
    COLLATERAL,
    COMMITTED,
    GWEI,
    INCREMENT,
    MAX_ANSWER,
    MOVE_GAS,
    OPENING,
    Game,
    Job,
    Reverted,
    Table,
    cost,
)

ANSWER = 600
GAMES = MAX_ANSWER // ANSWER


def longest_pick(honest: Honest, position: Position) -> Move:
    """One that leads to another show, if there is one."""
    picks = list(every_pick(honest, position))
    return next((pick for pick in picks if not isinstance(rules.apply(position, pick), Verdict)), picks[-1])


@pytest.fixture
def crowded() -> Table:
    """The clock is two increments, as networks are deployed with."""
    return replace(Table.deploy(clock=2 * INCREMENT), honest=Honest.of(every_level_task()))


def committed(table: Table) -> Job:
    """A job with a right result."""
    execution = table.honest.execution
    return table.job(execution.run_root, exact=Terms(execution.statement, ANSWER))


def answer_all(table: Table, games: list[Game]) -> None:
    """As well as it can be done: the most urgent first."""
    while waiting := [game for game in games if not game.over]:
        game: Game = min(waiting, key=lambda game: game.deadline)
        table.at(table.now + ANSWER)
        late = [game for game in waiting if table.now >= game.deadline]
        for each in late:
            table.time_out(each, "rival")
        assert not late, f"convicted in {len(late)} of {len(games)} games, though it always worked"
        table.show(game)
        table.move(game, longest_pick(table.honest, game.position))
    table.check()


def test_an_honest_provider_is_not_late_in_a_crowd_on_one_job(crowded: Table) -> None:
    job = committed(crowded)
    answer_all(crowded, [crowded.open(job) for _ in range(GAMES)])
    crowded.release(job)
    assert crowded.status(job) == COMMITTED


def test_moves_after_a_conviction_lead_to_no_verdict_and_are_refunded(crowded: Table) -> None:
    """Only a game's last move names its job. Provider and challenger may be one, which pays for both sides' moves then,
    and gets the equal share at most."""
    job = committed(crowded)
    first, other = crowded.open(job), crowded.open(job, "liar")
    crowded.at(first.deadline)
    crowded.time_out(first)
    crowded.convict(job)
    last = None
    while last is None:
        crowded.show(other)
        pick = longest_pick(crowded.honest, other.position)
        if isinstance(rules.apply(other.position, pick), Verdict):
            last = pick
        else:
            crowded.move(other, pick)
    with pytest.raises(Reverted, match="game: job is convicted"):
        crowded.move(other, last)
    assert other.moves > OPENING
    crowded.claim(other)
    crowded.claim(first)
    crowded.check()
    share = COLLATERAL * 15 // 100
    assert crowded.balance("liar") - other.bond == cost(MOVE_GAS * other.moves, GWEI) <= share // 2


@pytest.mark.xfail(reason="neither clocks nor bonds know of games on the provider's other jobs", strict=True)
def test_an_honest_provider_is_not_late_in_a_crowd_on_its_jobs(crowded: Table) -> None:
    jobs = [committed(crowded) for _ in range(GAMES)]
    answer_all(crowded, [crowded.open(job) for job in jobs])
