# SPDX-License-Identifier: Apache-2.0
"""A crowd of games against right runs: their provider makes one answer after the other, each in the answer seconds of
the terms, the time that one may take by itself. It has work without a pause, and must not be late in any game, as long
as it takes no more jobs than its software does (docs/trust.md)."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

import boa
import pytest

from gpubond.chain.games import CROWD, GameRules
from gpubond.disputes import rules
from gpubond.disputes.position import Verdict
from gpubond.disputes.terms import Terms
from gpubond.exact import reference
from gpubond.exact.runner import Task
from tests.disputes.liar import Lie, edges
from tests.disputes.play import Honest, Opens
from tests.disputes.tasks import every_level_task
from tests.disputes.test_soundness import told
from tests.exact_contracts.operations import drawing

from .conftest import fresh
from .crowd import Clocks, Crowd
from .runs import Runs, challenger
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
HOUR = 3_600
# As scripts/_games.py has them: rollups, layer 1, local chains.
NETWORKS = [Clocks(2 * each, each, 6 * HOUR) for each in (24 * HOUR, 6 * HOUR, HOUR // 2)]


def longest(task: Task) -> Lie:
    """That leads through every level, to a term of its longest reduction."""
    ops = task.program.ops
    op = max(range(len(ops)), key=lambda at: reference.terms(ops[at]))
    return Lie(0, op, term=reference.terms(ops[op]) // 2)


def accuser(honest: Honest, chance: random.Random) -> Opens:
    """That says of the right run whatever follows from some lie."""
    while True:
        wrong = told(honest, chance.choice(edges(honest.task)))
        if wrong is not None:
            return challenger(wrong[0])


@pytest.fixture(scope="module")
def laid_for_crowds() -> Table:
    """The clock is two increments, as networks are deployed with."""
    task = every_level_task()
    return replace(Table.deploy(clock=2 * INCREMENT), runs=Runs.of(task, longest(task)))


@pytest.fixture
def crowded(laid_for_crowds: Table) -> Iterator[Table]:
    with boa.env.anchor():
        yield fresh(laid_for_crowds)


def committed(table: Table, answer: int = ANSWER) -> Job:
    """A job with a right result."""
    return table.job(is_right=True, exact=Terms(table.runs.honest.terms.statement, answer))


def rules_of(clocks: Clocks) -> GameRules:
    """By which its software takes jobs."""
    return GameRules(
        "0x" + "a1" * 20,
        clock=clocks.clock,
        increment=clocks.increment,
        minimum_collateral=1,
        maximum_collateral=1,
        max_answer=clocks.max_answer,
    )


def taken(game_rules: GameRules, chance: random.Random, most: int) -> list[int]:
    """Answer seconds of jobs that a provider takes, until it has so many or its room is full."""
    found: list[int] = []
    while len(found) < most and (room := game_rules.answer_seconds - sum(found)):
        asked = room if len(found) == most - 1 else chance.randint(1, 2 * room)
        if game_rules.crowding(asked, sum(found)) is None:
            found.append(asked)
    return found


def answer_all(table: Table, games: list[Game], reserve: int = 0) -> None:
    """As well as it can be done: the most urgent first. reserve: seconds of each clock that must never be needed."""
    while waiting := [game for game in games if not game.over]:
        assert all(game.side == 0 for game in waiting)
        game: Game = min(waiting, key=lambda game: game.deadline)
        table.at(table.now + game.job.exact.answer_seconds)
        late = [game for game in waiting if table.now >= game.deadline]
        for each in late:
            table.time_out(each, "rival")
        assert not late, f"convicted in {len(late)} of {len(games)} games, though it always worked"
        assert game.deadline - table.now >= reserve
        table.step(game)
        while game.side == 1 and not game.over:
            table.step(game)
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
        move = other.next
        if isinstance(rules.apply(other.position, move), Verdict):
            last = move
        else:
            crowded.move(other, move)
    with pytest.raises(Reverted, match="game: job is convicted"):
        crowded.move(other, last)
    assert other.moves > OPENING
    crowded.claim(other)
    crowded.claim(first)
    crowded.check()
    share = COLLATERAL * 15 // 100
    assert crowded.balance("liar") - other.bond == cost(MOVE_GAS * other.moves, GWEI) <= share // 2


@pytest.mark.parametrize("seed", range(2))
def test_an_honest_provider_is_not_late_in_a_crowd_on_its_jobs(crowded: Table, seed: int) -> None:
    """The answer seconds of all open games are one increment, on one job or on many; who accuses of what is chance."""
    chance = drawing(seed)
    crowd = [(INCREMENT // 3, 1), (INCREMENT // 6, 2), (INCREMENT // 18, 6)]
    chance.shuffle(crowd)
    assert sum(answer * games for answer, games in crowd) == INCREMENT
    places = [committed(crowded, answer) for answer, _ in crowd]
    openings = [job for job, (_, games) in zip(places, crowd, strict=True) for _ in range(games)]
    chance.shuffle(openings)
    honest = crowded.runs.honest
    accusers = [accuser(honest, chance) for _ in range(4)]
    # Nothing of what each side has at first: that is for what keeps moves out of the chain.
    games = [crowded.open(job, player=chance.choice(accusers)) for job in openings]
    answer_all(crowded, games, reserve=crowded.clock)
    for job in places:
        crowded.release(job)
        assert crowded.status(job) == COMMITTED


def test_jobs_that_its_software_refuses_make_an_honest_provider_late(crowded: Table) -> None:
    clocks = Clocks(crowded.clock, INCREMENT, MAX_ANSWER)
    assert rules_of(clocks).crowding(ANSWER, 0) is not None
    jobs = [committed(crowded) for _ in range(GAMES)]
    with pytest.raises(AssertionError, match="though it always worked"):
        answer_all(crowded, [crowded.open(job) for job in jobs])
    assert any(job.convicted for job in jobs)


@pytest.mark.parametrize("temper", ["at once", "in bursts", "at random"])
@pytest.mark.parametrize("clocks", NETWORKS, ids=["rollup", "layer 1", "local"])
def test_no_crowd_on_jobs_that_its_software_takes_needs_the_clock(clocks: Clocks, temper: str) -> None:
    """64 games on each job, again and again, on one job and on several, beside a standstill as long as the clock."""
    game_rules = rules_of(clocks)
    for seed in range(12):
        jobs = taken(game_rules, drawing(seed), most=1 + seed % 6)
        for standstill in (0, clocks.clock - 1):
            crowd = Crowd(clocks, jobs, CROWD, seed, temper, standstill)
            crowd.play(2 * CROWD * len(jobs))
            assert not crowd.late, (jobs, seed)
            assert crowd.opened == 2 * CROWD * len(jobs)
            assert crowd.least_left >= clocks.clock, (jobs, seed)
            assert crowd.lost == standstill
            if temper != "at random":
                assert crowd.peak == CROWD * sum(jobs)


@pytest.mark.parametrize("clocks", NETWORKS, ids=["rollup", "layer 1", "local"])
def test_the_room_of_a_provider_is_an_increment(clocks: Clocks) -> None:
    game_rules = rules_of(clocks)
    room = game_rules.answer_seconds
    assert CROWD * room <= clocks.increment < CROWD * (room + 1)
    assert game_rules.most_answer_seconds == min(room, clocks.max_answer)
    for held in (0, 1, room // 2, room - 1):
        assert game_rules.crowding(room - held, held) is None
        short = game_rules.crowding(room - held + 1, held)
        assert short is not None
        assert short.field == "answer_seconds"
        assert short.remedy.startswith(f"{room - held} s are free")
    refused = game_rules.crowding(1, room + 5)
    assert refused is not None and refused.remedy.startswith("0 s are free")


@pytest.mark.parametrize(("jobs", "games"), [(1, CROWD), (12, 1), (4, CROWD)], ids=["one", "many", "mixed"])
def test_crowds_on_refused_jobs_can_make_it_late(jobs: int, games: int) -> None:
    """Six times an increment: one job whose answers are long, many with one game each, and both."""
    clocks = NETWORKS[1]
    crowd = Crowd(clocks, [6 * clocks.increment // (jobs * games)] * jobs, games, 0, "at once")
    assert rules_of(clocks).crowding(crowd.answers[0], (jobs - 1) * crowd.answers[0]) is not None
    crowd.play(jobs * games)
    assert crowd.late
