# SPDX-License-Identifier: Apache-2.0
"""Whole games through DisputeGame, Examiner and Judge: every position and verdict is that of the rules in Python."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from random import Random

import boa
import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from gpubond.disputes import rules
from gpubond.disputes.calldata import call
from gpubond.disputes.levels import Side
from gpubond.disputes.moves import (
    JudgeElement,
    Leaf,
    Move,
    Operand,
    PickElement,
    PickLeaf,
    PickOperation,
    Shown,
    ShowNodes,
)
from gpubond.disputes.position import Position, Verdict
from gpubond.disputes.structs import Origin, Registered
from gpubond.disputes.terms import Terms
from gpubond.exact import commitments, merkle, shapes
from gpubond.exact.commitments import content
from gpubond.exact.merkle import Kind
from gpubond.exact.program import Opcode, record_of
from gpubond.exact.refusal import Refused
from gpubond.exact.runner import Task
from tests.disputes.contracts import ChainGame, Reverted, World
from tests.disputes.liar import Changes, FalseAccuser, Liar, Lie, Tampered, edges, places
from tests.disputes.mutations import changed, writable
from tests.disputes.picks import JUNK, every_opening, every_pick
from tests.disputes.play import Honest, Opens, Player, play
from tests.disputes.tasks import deep_task, every_level_task, single_task, summing_task, wide_task
from tests.disputes.test_commitment_lies import replaced, wrong_end, wrong_terms
from tests.disputes.test_soundness import told
from tests.disputes.tricksters import Slanderer, Trickster
from tests.exact.conftest import Counted
from tests.exact.programs import Case, programs
from tests.exact_contracts.operations import drawing

SEED = 20261127
# Moves of one position that are gone after.
MOST_PATHS = 12


@pytest.fixture(scope="module")
def honest() -> Honest:
    return Honest.of(every_level_task())


def against(world: World, honest: Honest, liar: Player, root: bytes) -> tuple[bool, str]:
    """The honest challenger plays an asserter that may lie: whether it convicts, and how it ended."""
    with boa.env.anchor():
        game = world.open(honest.terms, root, honest.challenger.opening())
        played = game.play(liar, honest.challenger)
    return played.convicted, played.ending


def accused_by(world: World, honest: Honest, liar: Opens) -> tuple[bool, str]:
    """The honest asserter plays a challenger that may lie."""
    with boa.env.anchor():
        game = world.open(honest.terms, honest.execution.run_root, liar.opening())
        played = game.play(honest.asserter, liar)
    return played.convicted, played.ending


def convict(world: World, honest: Honest, lies: list[Lie], most: int) -> int:
    """Plays lies in the contracts, up to so many that have an effect; each in a run, and in an accusation. Who lies
    loses. Returns how many."""
    played = 0
    for lie in lies:
        wrong = told(honest, lie)
        if wrong is None:
            continue
        execution, root = wrong
        assert against(world, honest, Liar(execution), root) == (True, "judged"), execution.lie
        assert accused_by(world, honest, FalseAccuser(execution)) == (False, "judged"), execution.lie
        played += 1
        if played == most:
            break
    return played


def acquit(world: World, honest: Honest, number: int) -> None:
    """A game of a challenger that moves at random against the honest asserter."""
    assert not accused_by(world, honest, Slanderer(honest.execution, number))[0], number


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
        deep_task(33),
        summing_task(66 * 512 + 3),
        summing_task(700, Opcode.MATMUL_NT),
        summing_task(513, Opcode.ROWMAX),
    ],
    ids=[
        "one step",
        "no intervals",
        "short interval",
        "long interval",
        "wide program",
        "by turns",
        "segments",
        "dot",
        "maximum",
    ],
)
def test_other_runs(world: World, task: Task) -> None:
    honest = Honest.of(task)
    chance = drawing(SEED)
    assert convict(world, honest, of_each_kind(task, chance), 3) == 3
    for number in range(3):
        acquit(world, honest, SEED + number)


def test_random_picks_acquit(world: World, honest: Honest) -> None:
    for number in range(8):
        acquit(world, honest, SEED + number)


def test_hashes_of_nothing_are_caught(world: World, honest: Honest) -> None:
    """Of a commitment that a side keeps to itself the other one knows the hash, which is enough."""
    empty = next(at for at, op in enumerate(honest.task.program.ops) if shapes.count(op.shape) == 0)

    def junk(step: int, hashes: list[bytes]) -> list[bytes]:
        return replaced(hashes, empty, JUNK)

    changes = Changes(checkpoints=lambda hashes: replaced(hashes, 0), outputs=junk)
    single = Honest.of(single_task(3, 2))
    for of, said in ((honest, wrong_end(0)), (honest, changes), (single, wrong_end())):
        execution = Tampered(of.prepared, of.task, said)
        assert of.challenger.disputes(execution.run_root)
        assert against(world, of, Liar(execution), execution.run_root)[0]
        assert not accused_by(world, of, FalseAccuser(execution))[0]


@pytest.mark.parametrize("name", ["constant", "binding", "data row - 1"])
def test_right_runs_of_the_wrong_thing_are_caught(world: World, honest: Honest, name: str) -> None:
    execution = Honest.of(wrong_terms(honest.task)[name]).execution
    assert against(world, honest, Liar(execution), execution.run_root)[0]
    assert not accused_by(world, honest, FalseAccuser(execution))[0]


def test_an_operation_does_not_read_its_own_output(world: World) -> None:
    """Terms with a record that names its own output: nothing in the step's tree stands for it; nobody is convicted."""
    honest = Honest.of(single_task())
    op = honest.task.program.ops[0]
    record = record_of(replace(op, inputs=(1, 1)))
    tree = merkle.tree_of(Kind.PROGRAM, [*honest.task.program.records()[:-1], record])
    terms = Terms(replace(honest.terms.statement, program=tree.root), honest.terms.answer_seconds)
    wrong = told(honest, Lie(0, 0))
    assert wrong is not None
    ours, said = honest.execution.output(0, 0), wrong[0].output(0, 0)
    own = Operand(merkle.elements_tree(content(ours)).root, leaves=(Leaf(merkle.leaf_of(content(ours), 0), ()),))
    with boa.env.anchor():
        game = world.open(terms, wrong[1], ())
        game.move(ShowNodes((merkle.hash_leaf(Kind.STEP, commitments.tensor(ours)),)))
        leaf = merkle.elements_tree(content(said)).nodes(0, 0, 1)
        game.move(PickOperation(0, record, tree.path(2), leaf))
        game.move(PickLeaf(0, merkle.leaf_of(content(ours), 0)))
        game.move(PickElement(0, merkle.leaf_of(content(said), 0)))
        last = JudgeElement(Shown((own, own)))
        with pytest.raises(Refused, match="only outputs before 0"):
            game.move(last)
        function, arguments = call(game.registered, game.position, last)
        with pytest.raises(Reverted, match="game: no such tensor"):
            world.call("game", function, "rival", *arguments)


def test_tricksters_are_caught(world: World, honest: Honest) -> None:
    for number in range(3):
        liar, root = trickster(honest, number)
        assert against(world, honest, liar, root)[0], number


def trickster(honest: Honest, number: int) -> tuple[Trickster, bytes]:
    """An asserter that says at random what it is not bound to, and its run root."""
    chance = drawing(SEED + number)
    lies = [lie for lie in edges(honest.task) if lie.term is not None]
    execution, root = next(found for found in (told(honest, lie) for lie in chance.sample(lies, 50)) if found)
    return Trickster(execution, number), root


def test_changed_moves_are_refused_by_both(world: World, honest: Honest) -> None:
    """What the rules in Python refuse the contract refuses, and what they take it takes, with the same verdict."""
    taken = sum((compared(world, honest, number, 30) for number in range(2)), Counter[str]())
    assert taken["refused"] > 100 and taken["taken"] > 5, taken


@pytest.mark.extended
@pytest.mark.timeout(3600)
def test_many_changed_moves_are_refused_by_both(world: World, honest: Honest, counted: Counted) -> None:
    counted(sum(sum(compared(world, honest, number, 100).values()) for number in range(5)), SEED)


def compared(world: World, honest: Honest, number: int, most: int) -> Counter[str]:
    """Along two games at random, one of a wrong run and one of a right one: moves with one field changed, `most` of
    each position."""
    liar, root = trickster(honest, number)
    slanderer = Slanderer(honest.execution, number)
    taken: Counter[str] = Counter()
    with boa.env.anchor():
        game = world.open(honest.terms, root, honest.challenger.opening())
        taken += compare(game, liar, honest.challenger, drawing(number), most)
    with boa.env.anchor():
        game = world.open(honest.terms, honest.execution.run_root, slanderer.opening())
        taken += compare(game, honest.asserter, slanderer, drawing(number), most)
    return taken


def compare(game: ChainGame, asserter: Player, challenger: Player, chance: Random, most: int) -> Counter[str]:
    """Until a game is over, or who is to move has nothing to say."""
    taken: Counter[str] = Counter()

    def both(_: Position, move: Move) -> Position | Verdict:
        others = [other for other in changed(move) if writable(other)]
        for other in chance.sample(others, min(most, len(others))):
            with boa.env.anchor():
                position, registered, events = game.position, game.registered, len(game.events)
                try:
                    game.move(other)
                    taken["taken"] += 1
                except Refused:
                    taken["refused"] += 1
                game.position, game.registered = position, registered
                del game.events[events:]
        return game.move(move)

    play(game.position, asserter, challenger, both)
    return taken


@pytest.mark.extended
@pytest.mark.timeout(3600)
def test_many_lies_are_convicted(world: World, honest: Honest, counted: Counted) -> None:
    chance = drawing(SEED + 1)
    lies = [*of_each_kind(honest.task, chance), *chance.sample(places(honest.task), 1000)]
    counted(2 * convict(world, honest, lies, 300), SEED + 1)


def random_programs(world: World, examples: int) -> int:
    """Returns games played."""
    played: list[int] = []

    @seed(SEED)
    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(programs(), st.integers(1, 5), st.integers(1, 3), st.integers(0, 2**32))
    def games(case: Case, steps: int, interval: int, number: int) -> None:
        honest = Honest.of(Task(case.program, case.state, case.data, steps, interval))
        lies = places(honest.task)
        played.append(2 * convict(world, honest, drawing(number).sample(lies, min(4, len(lies))), 1))
        acquit(world, honest, number)
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
    root = honest.execution.run_root
    found: set[bytes] = set()
    reached: set[Position] = set()
    open_ = [rules.begin(honest.terms, root, nodes) for nodes in every_opening(honest)]
    chance = drawing(SEED)
    while open_:
        position = open_.pop()
        reached.add(replace(position, seen=()))
        found.add(registered.place(position).hash())
        if position.turn is Side.ASSERTER:
            moves = [honest.asserter.move(position)]
        else:
            moves = list(every_pick(honest, position))
            moves = chance.sample(moves, min(len(moves), MOST_PATHS))
        for move in moves:
            after = rules.apply(position, move)
            if isinstance(after, Position):
                open_.append(after)
    assert len(found) == len(reached) > 150
