# SPDX-License-Identifier: Apache-2.0
"""Whole games through DisputeGame, Examiner and Judge: every position and verdict is that of the rules in Python."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from random import Random

import boa
import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from gpubond.disputes import rules
from gpubond.disputes.execution import Execution
from gpubond.disputes.moves import Move
from gpubond.disputes.position import Position, Side, Verdict
from gpubond.disputes.structs import Origin, Registered
from gpubond.exact import reference, shapes
from gpubond.exact.program import Opcode
from gpubond.exact.refusal import Refused
from gpubond.exact.runner import Task
from tests.disputes.contracts import World
from tests.disputes.liar import Changes, Liar, Lie, Tampered, Trickster, edges, places
from tests.disputes.mutations import changed, writable
from tests.disputes.play import Honest
from tests.disputes.tasks import every_level_task, single_task, summing_task, wide_task
from tests.disputes.test_commitment_lies import JUNK, replaced, wrong_end, wrong_terms
from tests.disputes.test_soundness import every_pick, told
from tests.exact.conftest import Counted
from tests.exact.programs import Case, programs
from tests.exact_contracts.operations import drawing

SEED = 20261127


@pytest.fixture(scope="module")
def honest() -> Honest:
    return Honest.of(every_level_task())


def convict(world: World, honest: Honest, lies: list[Lie], most: int) -> int:
    """Plays lies in the contracts, up to so many that have an effect. Returns how many."""
    played = 0
    for lie in lies:
        wrong = told(honest, lie)
        if wrong is None:
            continue
        execution, root = wrong
        with boa.env.anchor():
            game = world.open(honest.terms, root)
            assert game.play(Liar(execution), honest.challenger) == (True, "judged"), execution.lie
        played += 1
        if played == most:
            break
    return played


@dataclass
class Wanderer:
    """A challenger that picks at random, and proves what it must."""

    honest: Honest
    chance: Random

    def pick(self, position: Position) -> Move:
        return self.chance.choice(list(every_pick(self.honest, position)))


def acquit(world: World, honest: Honest, chance: Random) -> None:
    """A game of random picks against the honest asserter."""
    with boa.env.anchor():
        game = world.open(honest.terms, honest.execution.run_root)
        assert game.play(honest.asserter, Wanderer(honest, chance)) == (False, "judged")


def of_each_kind(task: Task, chance: Random) -> list[Lie]:
    """Lies at the edges, those of each operation, of the next state and about accumulators first."""
    lies = edges(task)
    chance.shuffle(lies)
    kinds: dict[object, Lie] = {}
    for lie in lies:
        kinds.setdefault((lie.op, lie.tensor, lie.term is None, lie.join is None), lie)
    return [*kinds.values(), *lies]


def test_lies_are_convicted(world: World, honest: Honest) -> None:
    assert convict(world, honest, of_each_kind(honest.task, drawing(SEED)), 12) == 12


@pytest.mark.parametrize(
    "task",
    [
        single_task(),
        single_task(3, 1),
        single_task(5, 2, Opcode.MUL),
        every_level_task(70, 66),
        wide_task(),
        summing_task(66 * 512 + 3),
        summing_task(700, Opcode.MATMUL_NT),
        summing_task(513, Opcode.ROWMAX),
    ],
    ids=["one step", "no intervals", "short interval", "long interval", "wide program", "segments", "dot", "maximum"],
)
def test_other_runs(world: World, task: Task) -> None:
    honest = Honest.of(task)
    chance = drawing(SEED)
    lies = of_each_kind(task, chance)
    assert convict(world, honest, lies, 3) == 3
    for _ in range(3):
        acquit(world, honest, chance)


def test_random_picks_acquit(world: World, honest: Honest) -> None:
    for number in range(8):
        acquit(world, honest, drawing(SEED + number))


def caught(world: World, honest: Honest, execution: Execution, ending: str) -> None:
    with boa.env.anchor():
        root = execution.run_root
        assert honest.challenger.disputes(root)
        assert world.open(honest.terms, root).play(Liar(execution), honest.challenger) == (True, ending)


def test_hashes_of_nothing_are_caught(world: World, honest: Honest) -> None:
    """Of a commitment that the asserter keeps to itself the challenger knows the hash, which is enough."""
    caught(world, honest, Tampered(honest.prepared, honest.task, wrong_end(0)), "asserter")
    empty = next(at for at, op in enumerate(honest.task.program.ops) if shapes.count(op.shape) == 0)

    def junk(step: int, hashes: list[bytes]) -> list[bytes]:
        return replaced(hashes, empty, JUNK)

    changes = Changes(checkpoints=lambda hashes: replaced(hashes, 0), outputs=junk)
    caught(world, honest, Tampered(honest.prepared, honest.task, changes), "judged")
    single = Honest.of(single_task(3, 2))
    caught(world, single, Tampered(single.prepared, single.task, wrong_end()), "judged")


@pytest.mark.parametrize("name", ["constant", "binding", "data row - 1", "one step less"])
def test_right_runs_of_the_wrong_thing_are_caught(world: World, honest: Honest, name: str) -> None:
    task = wrong_terms(honest.task)[name]
    execution = Honest.of(task).execution
    with boa.env.anchor():
        game = world.open(honest.terms, execution.run_root)
        convicted, _ = game.play(Liar(execution), honest.challenger)
        assert convicted


def test_tricksters_are_caught(world: World, honest: Honest) -> None:
    lies = [lie for lie in edges(honest.task) if lie.term is not None]
    wrong = next(found for found in (told(honest, lie) for lie in drawing(SEED).sample(lies, 50)) if found)
    for number in range(3):
        with boa.env.anchor():
            game = world.open(honest.terms, wrong[1])
            assert game.play(Trickster(wrong[0], number), honest.challenger)[0]


def test_changed_moves_are_refused_by_both(world: World, honest: Honest) -> None:
    """What the rules in Python refuse the contract refuses, and what they take it takes, with the same verdict."""
    chance = drawing(SEED)
    taken = sum((compared(world, honest, chance, 30) for _ in range(3)), Counter[str]())
    assert taken["refused"] > 100 and taken["taken"] > 5, taken


@pytest.mark.extended
@pytest.mark.timeout(3600)
def test_many_changed_moves_are_refused_by_both(world: World, honest: Honest, counted: Counted) -> None:
    chance = drawing(SEED)
    counted(sum(sum(compared(world, honest, chance, 100).values()) for _ in range(10)), SEED)


def compared(world: World, honest: Honest, chance: Random, most: int) -> Counter[str]:
    """Along a random game, moves with one field changed, `most` of each position."""
    taken: Counter[str] = Counter()
    with boa.env.anchor():
        game = world.open(honest.terms, honest.execution.run_root)
        wanderer = Wanderer(honest, chance)
        while True:
            position = game.position
            move = honest.asserter.show(position) if position.turn is Side.ASSERTER else wanderer.pick(position)
            others = [other for other in changed(move) if writable(other)]
            for other in chance.sample(others, min(most, len(others))):
                with boa.env.anchor():
                    registered = game.registered
                    try:
                        game.move(other)
                        taken["taken"] += 1
                    except Refused:
                        taken["refused"] += 1
                    game.position, game.registered = position, registered
            if isinstance(game.move(move), Verdict):
                return taken


@pytest.mark.extended
@pytest.mark.timeout(3600)
def test_many_lies_are_convicted(world: World, honest: Honest, counted: Counted) -> None:
    chance = drawing(SEED + 1)
    lies = [*of_each_kind(honest.task, chance), *chance.sample(places(honest.task), 1000)]
    counted(convict(world, honest, lies, 300), SEED + 1)


def random_programs(world: World, examples: int) -> int:
    """Returns games played."""
    played: list[int] = []

    @seed(SEED)
    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(programs(), st.integers(1, 5), st.integers(1, 3), st.integers(0, 2**32))
    def games(case: Case, steps: int, interval: int, number: int) -> None:
        chance = drawing(number)
        honest = Honest.of(Task(case.program, case.state, case.data, steps, interval))
        lies = places(honest.task)
        played.append(convict(world, honest, chance.sample(lies, min(4, len(lies))), 1))
        acquit(world, honest, chance)
        played.append(1)

    games()
    return sum(played)


def test_random_programs(world: World) -> None:
    assert random_programs(world, 5) > 5


@pytest.mark.extended
@pytest.mark.timeout(3600)
def test_many_random_programs(world: World, counted: Counted) -> None:
    counted(random_programs(world, 200), SEED)


def test_positions_are_told_apart(honest: Honest) -> None:
    """No two positions of a game have one struct: a move cannot be taken for an answer to another."""
    origin = Origin(bytes(32), bytes(32), bytes(32), bytes(32), 0, 0, 0)
    registered = Registered(bytes(32), 0, "0x" + "11" * 20, "0x" + "22" * 20, origin)
    seen: set[bytes] = set()
    count = 0
    open_: list[Position] = [rules.begin(honest.terms, honest.execution.run_root)]
    ops = {at for at, op in enumerate(honest.task.program.ops) if shapes.count(op.shape) < 80 or reference.terms(op)}
    while open_:
        position = open_.pop()
        seen.add(registered.place(position).hash())
        count += 1
        if position.turn is Side.ASSERTER:
            moves: list[Move] = [honest.asserter.show(position)]
        else:
            moves = [move for move in every_pick(honest, position) if getattr(move, "op", None) in {None, *ops}]
        for move in moves:
            if (position.step or 0) < 2 and not type(move).__name__.startswith("Judge"):
                after = rules.apply(position, move)
                if isinstance(after, Position):
                    open_.append(after)
    assert len(seen) == count > 150
